//! Keys in every format that the crate reads. FOR TESTS ONLY: they are public, and no server trusts
//! them.
//!
//! All RSA formats contain the same key, and so do all P-256 and all Ed25519 formats. The weak RSA
//! key and the P-384 key are separate; the crate rejects both.

use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, decode};
use serde_json::Value;

/// Verifies a JWT with the public test key for its algorithm, and returns its content.
pub(crate) fn verified(jwt: &str, algorithm: Algorithm, audience: &str) -> TokenData<Value> {
    let key = match algorithm {
        Algorithm::RS256 | Algorithm::PS256 => DecodingKey::from_rsa_pem(RSA_PUBLIC.as_bytes()),
        Algorithm::ES256 => DecodingKey::from_ec_pem(EC_PUBLIC.as_bytes()),
        Algorithm::EdDSA => DecodingKey::from_ed_pem(ED_PUBLIC.as_bytes()),
        _ => Ok(DecodingKey::from_secret(HMAC_SECRET.as_bytes())),
    };
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[audience]);
    decode(jwt, &key.unwrap(), &validation).unwrap()
}

pub(crate) const HMAC_SECRET: &str = "a secret of at least thirty-two bytes";

pub(crate) const RSA_PKCS8: &str = r#"-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQClnEvVCxxUZPFp
1m4d9+SB5ptH8uoJlIzMKfRFNEjebb77IWw7r/xV5Q2wMW7eLK9bs7U2qanzakCt
8fGcIXJhZjLNgiaUhNHam21lItwj+BFMHnDcRwNRlozmpFRZsMKD2NtsoTVuIq2H
XDdNvELtsMNzGHLkPNSIC+/WygFQX+C4ocL4Iys5MYyASTj729F2D1RszwoGQEuI
5+TLu1f1YQMOqd1xSrHBPx1LFqNKQUJ1vB4rgDUX7v/7V0jZ2F3RVC6ztjOgjwQC
bbwmrwyI5g6Z3Rz4dqsmWJ66Y2FCSvANCmM9CobBbxa/uIFpoDuYEEutY7IAq9ht
Q4Wb3RsFAgMBAAECggEAFb9v5Ob73ihQXI/0b3qLdzSPnTPs4Huxvqjew0zBqfX6
/7MMqczrQ+NbuBDRyJrRH2d6y1Yd85F3M3CDhDePM/OuBbdK9jN39G93PvIEOzP7
H4Ya1456xNbSo4IecpXIAXTzobEM2Wzz4UPunkZz+o89J2rlQYwsc74vjYMDB6kN
IfZRwZlguc8EnpHlSalbQQu9aUcxN0PfjwmN2ozGyhKFD0oAyAyhnd9luhPUwuuG
nMs6y/zsWP32wBy4nPchXIw+GbReACxt4JhBGxrnfWM/U9eO4gwv7y9EZlxdtK3R
JenLvF10wU9nz+w8Wa+8nLf5jNrLCjQDuXObar1tKQKBgQDnOp0V6x39deCY0OJj
tXFhQCyfALwp7ceJCjWiZ///Dzv8m7DR/oqZJEX1O+jjuwhBjoNgoRFRHV246KAP
1Ql9E+ALxLX6EUqMx2scwaqOLVUnLsDmK9Pm9ybwIWYJSlEnX9YfQE/8znsmhip3
vDLmdN6pVQu4xDx4mq8px0HcOQKBgQC3Wh3Rz8q52lE+ennaNCetI+luuSZG+vBb
qo+E+t3R7KRwABuCtmrTJizrL2n9BZC5Flf+PSeHG36JuUsNgo0lD5f5y/Qt2nta
S2dZ1KsPWFL5Zae+uilb+ymiHY0ppy91O5HAlIuvhHyrOiBCmTCcyf+Z4zHCwbeP
6F+UIu6NLQKBgQCgyb1Z9HiSO1nGadpDA3Sn73wXxOcTMOlDffn1yOPWdL191rWK
ELpH61VKRjKXyQLgszzgAKCOCyGU5w4GdFl4xE1TYaI5FbUFV9Y/1NvIqfVAnd49
L9TWEp7c9ByD8U2lV5sJeCsm3F3+V+VIBXJPlo0OqrjP7oUuSEHth0Vg4QKBgCtt
sfB3WlpJJsM4uVIA1oEBJ5JtUm6vk2zy6kmiLhZCCfTpYZrFYGog+bS/J0iiH9Rn
QXJbw9gRoBg5Bljt2kaz+dhWAcE2pc8OWy2A3P+meQjPljrr104NIKBghYYfLnOD
J5PI24k4RVs9SlTb+hK5Gcy2bpvlzHfOn4zz9TMFAoGAY6ex2g3W/1Rmi3LPAqO5
xkx3pzeKnV65tSQyGGTVukT3DF5F+BG57xL+cLFzifDLiYSdxzpqEVNmaDZze7ib
CUQN5LhlHTWiFjaZ7k73rJ0HIdKhYpeawUtVkNP1GcMilNedgPqgnqP02xgwlSEM
DaMcP52SFsFfINvk02R05R8=
-----END PRIVATE KEY-----"#;

pub(crate) const RSA_PKCS1: &str = r#"-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEApZxL1QscVGTxadZuHffkgeabR/LqCZSMzCn0RTRI3m2++yFs
O6/8VeUNsDFu3iyvW7O1Nqmp82pArfHxnCFyYWYyzYImlITR2pttZSLcI/gRTB5w
3EcDUZaM5qRUWbDCg9jbbKE1biKth1w3TbxC7bDDcxhy5DzUiAvv1soBUF/guKHC
+CMrOTGMgEk4+9vRdg9UbM8KBkBLiOfky7tX9WEDDqndcUqxwT8dSxajSkFCdbwe
K4A1F+7/+1dI2dhd0VQus7YzoI8EAm28Jq8MiOYOmd0c+HarJlieumNhQkrwDQpj
PQqGwW8Wv7iBaaA7mBBLrWOyAKvYbUOFm90bBQIDAQABAoIBABW/b+Tm+94oUFyP
9G96i3c0j50z7OB7sb6o3sNMwan1+v+zDKnM60PjW7gQ0cia0R9nestWHfORdzNw
g4Q3jzPzrgW3SvYzd/Rvdz7yBDsz+x+GGteOesTW0qOCHnKVyAF086GxDNls8+FD
7p5Gc/qPPSdq5UGMLHO+L42DAwepDSH2UcGZYLnPBJ6R5UmpW0ELvWlHMTdD348J
jdqMxsoShQ9KAMgMoZ3fZboT1MLrhpzLOsv87Fj99sAcuJz3IVyMPhm0XgAsbeCY
QRsa531jP1PXjuIML+8vRGZcXbSt0SXpy7xddMFPZ8/sPFmvvJy3+Yzaywo0A7lz
m2q9bSkCgYEA5zqdFesd/XXgmNDiY7VxYUAsnwC8Ke3HiQo1omf//w87/Juw0f6K
mSRF9Tvo47sIQY6DYKERUR1duOigD9UJfRPgC8S1+hFKjMdrHMGqji1VJy7A5ivT
5vcm8CFmCUpRJ1/WH0BP/M57JoYqd7wy5nTeqVULuMQ8eJqvKcdB3DkCgYEAt1od
0c/KudpRPnp52jQnrSPpbrkmRvrwW6qPhPrd0eykcAAbgrZq0yYs6y9p/QWQuRZX
/j0nhxt+iblLDYKNJQ+X+cv0Ldp7WktnWdSrD1hS+WWnvropW/spoh2NKacvdTuR
wJSLr4R8qzogQpkwnMn/meMxwsG3j+hflCLujS0CgYEAoMm9WfR4kjtZxmnaQwN0
p+98F8TnEzDpQ3359cjj1nS9fda1ihC6R+tVSkYyl8kC4LM84ACgjgshlOcOBnRZ
eMRNU2GiORW1BVfWP9TbyKn1QJ3ePS/U1hKe3PQcg/FNpVebCXgrJtxd/lflSAVy
T5aNDqq4z+6FLkhB7YdFYOECgYArbbHwd1paSSbDOLlSANaBASeSbVJur5Ns8upJ
oi4WQgn06WGaxWBqIPm0vydIoh/UZ0FyW8PYEaAYOQZY7dpGs/nYVgHBNqXPDlst
gNz/pnkIz5Y669dODSCgYIWGHy5zgyeTyNuJOEVbPUpU2/oSuRnMtm6b5cx3zp+M
8/UzBQKBgGOnsdoN1v9UZotyzwKjucZMd6c3ip1eubUkMhhk1bpE9wxeRfgRue8S
/nCxc4nwy4mEncc6ahFTZmg2c3u4mwlEDeS4ZR01ohY2me5O96ydByHSoWKXmsFL
VZDT9RnDIpTXnYD6oJ6j9NsYMJUhDA2jHD+dkhbBXyDb5NNkdOUf
-----END RSA PRIVATE KEY-----"#;

pub(crate) const RSA_PUBLIC: &str = r#"-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEApZxL1QscVGTxadZuHffk
geabR/LqCZSMzCn0RTRI3m2++yFsO6/8VeUNsDFu3iyvW7O1Nqmp82pArfHxnCFy
YWYyzYImlITR2pttZSLcI/gRTB5w3EcDUZaM5qRUWbDCg9jbbKE1biKth1w3TbxC
7bDDcxhy5DzUiAvv1soBUF/guKHC+CMrOTGMgEk4+9vRdg9UbM8KBkBLiOfky7tX
9WEDDqndcUqxwT8dSxajSkFCdbweK4A1F+7/+1dI2dhd0VQus7YzoI8EAm28Jq8M
iOYOmd0c+HarJlieumNhQkrwDQpjPQqGwW8Wv7iBaaA7mBBLrWOyAKvYbUOFm90b
BQIDAQAB
-----END PUBLIC KEY-----"#;

/// A 1024-bit RSA key.
pub(crate) const RSA_WEAK: &str = r#"-----BEGIN PRIVATE KEY-----
MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBAMVMZN6uniCfj58w
+++ndvp737+peUGg7pozO9sX4f1rwKF25nyqwynVIh35ACp0+zatr0rFoxrD68Oe
QkXJh+/diwKxGKJxkUqrgHG158I+g6+1n2U4dtzJ+DoQM4sGXh9In74Vfl1H3+vR
Bjx24yeNKGCwM2b1abKmqPuJlfcBAgMBAAECgYA6wwD77af88Wj2McGnZAokmkZO
sCwEJulJld7K5zcQokoSDPaixL0xtV/e621oN8UmSN5/d5OXgiiy72yvmlFY0fot
e4wpVWzZEf3tjd2l2ji1iW342CHKknl5Qgn3gdBDn0Xds8ddr9LVWMMJ3CEYU42v
eXKPJUQzhaFMbAJ7rQJBAPcf44p+Qd3vbVRyCH8rCqL1x2orVvmx2hWhZ/WR9Gy/
uBD6jHitgY6B5W6y2ArJL9lwJXymh/Pxzttu7iI4VOsCQQDMYmTWLxTd47KSoGed
zwRVp6SeCNVcuuBP8/yDOUmJZeITXJLyYUd9tiUvNbrqkvbrcmrfy3M9EskonGd9
VdjDAkEA5knBMP4XQ0orB9Z8NIVXlCSVgEqC8ozaPe37gsxQikbesHPLE2ocoUBL
Ha1rxiFVhbsMM+y8JIfhzHrDTwBPoQJAGu3f8WSUsEO/FJiz7lQHcy26f+QUELrC
sWYpYDTdHpBhAEITToJIxCSKs7S1oxCoHg+eS0xoK6TdAk/RRu9XtwJAe4+d2Qgh
PYaCJUuBiN5rb8RjF4jXabrZRWpqfaLIWo06iS/UR5piKhp0elyp7EbPPSdMWgcQ
PDcBH9S6QSCfFw==
-----END PRIVATE KEY-----"#;

pub(crate) const EC_PKCS8: &str = r#"-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg+P7dZzqaw+7yxNn8
ijA4OaljirkGq4q9WYEI+rknximhRANCAARp6oh+T5cc/3yNM2H92TfeaVKeC9Z6
+4EwgM926K146g6M1HLJZn8VeTwnOtq0+gMDQyxQcrtDg58FH0wfPTTQ
-----END PRIVATE KEY-----"#;

/// A SEC1 key as `openssl ecparam -genkey` writes it, after the parameters of its curve.
pub(crate) const EC_SEC1: &str = r#"-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPj+3Wc6msPu8sTZ/IowODmpY4q5BquKvVmBCPq5J8YpoAoGCCqGSM49
AwEHoUQDQgAEaeqIfk+XHP98jTNh/dk33mlSngvWevuBMIDPduiteOoOjNRyyWZ/
FXk8JzratPoDA0MsUHK7Q4OfBR9MHz000A==
-----END EC PRIVATE KEY-----"#;

pub(crate) const EC_PUBLIC: &str = r#"-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaeqIfk+XHP98jTNh/dk33mlSngvW
evuBMIDPduiteOoOjNRyyWZ/FXk8JzratPoDA0MsUHK7Q4OfBR9MHz000A==
-----END PUBLIC KEY-----"#;

pub(crate) const EC_CERTIFICATE: &str = r#"-----BEGIN CERTIFICATE-----
MIIBcjCCARmgAwIBAgIUAsMkbUVg3tg7Y483WeRcgRC0uX8wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAeFw0yNjExMjQxNTQyMzFaFw0yNjExMjUxNTQyMzFa
MA8xDTALBgNVBAMMBHRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARp6oh+
T5cc/3yNM2H92TfeaVKeC9Z6+4EwgM926K146g6M1HLJZn8VeTwnOtq0+gMDQyxQ
crtDg58FH0wfPTTQo1MwUTAdBgNVHQ4EFgQU6q3CjSd+n0XrL4PUl2jKj0rCK9ow
HwYDVR0jBBgwFoAU6q3CjSd+n0XrL4PUl2jKj0rCK9owDwYDVR0TAQH/BAUwAwEB
/zAKBggqhkjOPQQDAgNHADBEAiBmGTg1jOL6ZFce4ZQW+H7kwbU+koKmHM/M7zd7
TXtSSgIgBncE27y41amzPv+qdZ62YTwT7Wrox4RP7DAsdC8Dmpk=
-----END CERTIFICATE-----"#;

/// A key that is encrypted with a passphrase.
pub(crate) const EC_ENCRYPTED: &str = r#"-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjaPSPGbN/SoAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEABvQaso173FZxsd9tpMawkEgZA5
bz/qGjvLKmBPdtTTmFQM5OWK8jYvYGo0Fq3jYiNpQIuoVwDfLBgfdz/LAEaP/lxp
oqI1jMLZQ/T4i2UAvHxUMbyZyoVMuPywtw/pVJEXwJnUyK/IZ7AzG7hXbblCTx77
0CUo4ZDrh+787T0eksQxuFLJ7z3eqX8ifaT1bAKUOhqqmNWNa0124nug8IDMaP0=
-----END ENCRYPTED PRIVATE KEY-----"#;

pub(crate) const EC_ENCRYPTED_TRADITIONAL: &str = r#"-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,84CA49BE522CEA768DAFCBB1E5BC06CC

l70e0yLLQcLXDG7HPgLKRgu352WpZ480uHJYdCHe3tj+UH5XNFD3Di6ooImZfdLp
l/JR1zopu86y8+3LXCo+9Bz0HTUMU8gCsbkbmsl5/U+DIzKrtUy8NVVrpm1r74cg
35nucGXxoJXZZr7ZElTMEiQCpLvNs3oL/pDcF7NqWo4=
-----END EC PRIVATE KEY-----"#;

pub(crate) const EC_P384: &str = r#"-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDDqwLjxq7xwsA6HCChC
E9eVKicoM2nvW8UnsK8dIjX4BEkbmBuymwEMvDbTLwUD2J2hZANiAARuCc+GDXPj
tCc100QZ5DzhF7sZxMffaNWe37h490LDfVO7zCH+HBrS4q2O2K42ZfnOE6fGTa3y
Jlj2wv9moOeYK2w+zvLRqB0FEDBVARDEt6UG4Wiez2xiHV5WxGUO+8A=
-----END PRIVATE KEY-----"#;

pub(crate) const ED_PKCS8: &str = r#"-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEICknJ20oFUzuBhU/yVkXZ5aYbM4LtkyXdGCGvDmcT/xu
-----END PRIVATE KEY-----"#;

pub(crate) const ED_PUBLIC: &str = r#"-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA5xS2SY96Ig2KGkkG4ceAf972wm46Z1/ZQnQxN3hxbO4=
-----END PUBLIC KEY-----"#;

/// A JWK without `alg`, like the other JWKs.
pub(crate) const RSA_JWK: &str = r#"{
 "kty": "RSA",
 "kid": "rsa-1",
 "n": "pZxL1QscVGTxadZuHffkgeabR_LqCZSMzCn0RTRI3m2--yFsO6_8VeUNsDFu3iyvW7O1Nqmp82pArfHxnCFyYWYyzYImlITR2pttZSLcI_gRTB5w3EcDUZaM5qRUWbDCg9jbbKE1biKth1w3TbxC7bDDcxhy5DzUiAvv1soBUF_guKHC-CMrOTGMgEk4-9vRdg9UbM8KBkBLiOfky7tX9WEDDqndcUqxwT8dSxajSkFCdbweK4A1F-7_-1dI2dhd0VQus7YzoI8EAm28Jq8MiOYOmd0c-HarJlieumNhQkrwDQpjPQqGwW8Wv7iBaaA7mBBLrWOyAKvYbUOFm90bBQ",
 "e": "AQAB",
 "d": "Fb9v5Ob73ihQXI_0b3qLdzSPnTPs4Huxvqjew0zBqfX6_7MMqczrQ-NbuBDRyJrRH2d6y1Yd85F3M3CDhDePM_OuBbdK9jN39G93PvIEOzP7H4Ya1456xNbSo4IecpXIAXTzobEM2Wzz4UPunkZz-o89J2rlQYwsc74vjYMDB6kNIfZRwZlguc8EnpHlSalbQQu9aUcxN0PfjwmN2ozGyhKFD0oAyAyhnd9luhPUwuuGnMs6y_zsWP32wBy4nPchXIw-GbReACxt4JhBGxrnfWM_U9eO4gwv7y9EZlxdtK3RJenLvF10wU9nz-w8Wa-8nLf5jNrLCjQDuXObar1tKQ",
 "p": "5zqdFesd_XXgmNDiY7VxYUAsnwC8Ke3HiQo1omf__w87_Juw0f6KmSRF9Tvo47sIQY6DYKERUR1duOigD9UJfRPgC8S1-hFKjMdrHMGqji1VJy7A5ivT5vcm8CFmCUpRJ1_WH0BP_M57JoYqd7wy5nTeqVULuMQ8eJqvKcdB3Dk",
 "q": "t1od0c_KudpRPnp52jQnrSPpbrkmRvrwW6qPhPrd0eykcAAbgrZq0yYs6y9p_QWQuRZX_j0nhxt-iblLDYKNJQ-X-cv0Ldp7WktnWdSrD1hS-WWnvropW_spoh2NKacvdTuRwJSLr4R8qzogQpkwnMn_meMxwsG3j-hflCLujS0",
 "dp": "oMm9WfR4kjtZxmnaQwN0p-98F8TnEzDpQ3359cjj1nS9fda1ihC6R-tVSkYyl8kC4LM84ACgjgshlOcOBnRZeMRNU2GiORW1BVfWP9TbyKn1QJ3ePS_U1hKe3PQcg_FNpVebCXgrJtxd_lflSAVyT5aNDqq4z-6FLkhB7YdFYOE",
 "dq": "K22x8HdaWkkmwzi5UgDWgQEnkm1Sbq-TbPLqSaIuFkIJ9OlhmsVgaiD5tL8nSKIf1GdBclvD2BGgGDkGWO3aRrP52FYBwTalzw5bLYDc_6Z5CM-WOuvXTg0goGCFhh8uc4Mnk8jbiThFWz1KVNv6ErkZzLZum-XMd86fjPP1MwU",
 "qi": "Y6ex2g3W_1Rmi3LPAqO5xkx3pzeKnV65tSQyGGTVukT3DF5F-BG57xL-cLFzifDLiYSdxzpqEVNmaDZze7ibCUQN5LhlHTWiFjaZ7k73rJ0HIdKhYpeawUtVkNP1GcMilNedgPqgnqP02xgwlSEMDaMcP52SFsFfINvk02R05R8"
}"#;

pub(crate) const EC_JWK: &str = r#"{
 "kty": "EC",
 "crv": "P-256",
 "kid": "ec-1",
 "x": "aeqIfk-XHP98jTNh_dk33mlSngvWevuBMIDPduiteOo",
 "y": "DozUcslmfxV5PCc62rT6AwNDLFByu0ODnwUfTB89NNA",
 "d": "-P7dZzqaw-7yxNn8ijA4OaljirkGq4q9WYEI-rknxik"
}"#;

pub(crate) const ED_JWK: &str = r#"{
 "kty": "OKP",
 "crv": "Ed25519",
 "kid": "ed-1",
 "x": "5xS2SY96Ig2KGkkG4ceAf972wm46Z1_ZQnQxN3hxbO4",
 "d": "KScnbSgVTO4GFT_JWRdnlphszgu2TJd0YIa8OZxP_G4"
}"#;
