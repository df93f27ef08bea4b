// `oidc-provider` with its own login pages, which accept any user and any password. Clients register themselves
// (RFC 7591). Access tokens are JWTs for any requested resource. DPoP proofs require a nonce. A separate port uses TLS
// and client certificates.

import { once } from 'node:events';
import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const library = join(process.env.NODE_MODULES, 'oidc-provider/lib/index.js');
const { default: Provider, errors } = await import(pathToFileURL(library));

const http = createServer();
await once(http.listen(0, '127.0.0.1'), 'listening');
const { port } = http.address();
const issuer = `http://127.0.0.1:${port}`;

// The tests put the certificates here if they need TLS.
let https;
if (existsSync('server.pem')) {
  const own = readFileSync('server.pem');
  https = createTlsServer({
    cert: own, key: own, ca: readFileSync('root.pem'), requestCert: true, rejectUnauthorized: true,
  });
  await once(https.listen(0, '127.0.0.1'), 'listening');
}
const tls = https && `https://localhost:${https.address().port}`;

const certificate = (ctx) => {
  const shown = ctx.socket.getPeerCertificate?.();
  return shown?.raw && new X509Certificate(shown.raw);
};

const key = (type, options, more) => {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), ...more, use: 'sig' };
};

const API = 'https://api.example.com';
const provider = new Provider(issuer, {
  // The time of the user's login, for APIs that check it (RFC 9470 §5).
  extraTokenClaims: ({ oidc: { entities } }) => {
    const { authTime } = entities.AuthorizationCode ?? entities.RefreshToken ?? {};
    return authTime && { auth_time: authTime };
  },
  scopes: ['openid', 'offline_access', 'read', 'write'],
  jwks: {
    keys: [
      key('rsa', { modulusLength: 2048 }, { kid: 'rsa', alg: 'RS256' }),
      key('ec', { namedCurve: 'P-256' }, { kid: 'ec', alg: 'ES256' }),
    ],
  },
  clientAuthMethods: [
    'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none',
    ...(tls ? ['tls_client_auth'] : []),
  ],
  extraClientMetadata: { properties: ['access_token_lifetime'] },
  cookies: { keys: ['known to everyone, trusted by no one'] },
  discovery: tls ? { mtls_endpoint_aliases: { token_endpoint: `${tls}/token` } } : {},
  ttl: {
    AccessToken: (ctx, token, client) => client.access_token_lifetime ?? 3600, ClientCredentials: 3600, DeviceCode: 600, Grant: 3600, Interaction: 600, Session: 3600,
    IdToken: 3600, RefreshToken: 3600,
  },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    registration: { enabled: true },
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    mTLS: {
      enabled: Boolean(tls),
      certificateBoundAccessTokens: Boolean(tls),
      tlsClientAuth: Boolean(tls),
      getCertificate: certificate,
      certificateAuthorized: (ctx) => Boolean(ctx.socket.authorized),
      certificateSubjectMatches: (ctx, property, expected) =>
        property === 'tls_client_auth_san_dns' && certificate(ctx).checkHost(expected) === expected,
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, oneOf) => oneOf ?? (ctx.oidc.params?.scope?.includes('openid') ? undefined : API),
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource) => {
        if (resource.startsWith('https://unknown.')) throw new errors.InvalidTarget();
        return {
          scope: 'read write',
          audience: resource,
          accessTokenFormat: 'jwt',
          // One API verifies ES256, the others RS256.
          jwt: { sign: { alg: resource.endsWith('/ec') ? 'ES256' : 'RS256' } },
        };
      },
    },
  },
});

// How many tokens each client got. JWTs cause the event `issued`, other tokens `saved`.
const issued = new Map();
for (const token of ['client_credentials', 'access_token']) {
  for (const event of ['issued', 'saved']) {
    provider.on(`${token}.${event}`, ({ clientId }) => issued.set(clientId, (issued.get(clientId) ?? 0) + 1));
  }
}
provider.on('grant.error', (ctx, error) => console.log('grant.error', error.error, error.error_detail ?? ''));
provider.on('server_error', (ctx, error) => console.log('server_error', error));

// The exchanges of refresh tokens by programs whose `User-Agent` is `<client>/<member>`.
const exchanges = new Map();
function begin(request) {
  const [client, member] = (request.headers['user-agent'] ?? '').split('/');
  if (!exchanges.has(client)) exchanges.set(client, []);
  request.exchange = { member };
  exchanges.get(client).push(request.exchange);
}
const end = (ctx, error) => Object.assign(ctx.req.exchange ?? {}, {
  sent: ctx.oidc.params?.refresh_token,
  access_token: ctx.body?.access_token,
  refused: error && (error.error_detail ?? error.error),
});
provider.on('grant.success', (ctx) => end(ctx));
provider.on('grant.error', end);

// Auth0 also accepts JSON, and `audience` instead of `resource`. Everything else is unchanged.
async function asAuth0(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  const isJson = request.headers['content-type'].startsWith('application/json');
  const { audience, ...others } = isJson ? JSON.parse(text) : Object.fromEntries(new URLSearchParams(text));
  request.body = new URLSearchParams({ ...others, resource: audience }).toString();
  request.headers['content-type'] = 'application/x-www-form-urlencoded';
  request.url = '/token';
}

const answer = provider.callback();
const serve = async (request, response) => {
  const count = request.url.match(/^\/interop\/issued\/(.*)$/);
  if (count) {
    response.end(String(issued.get(count[1]) ?? 0));
    return;
  }
  const list = request.url.match(/^\/interop\/exchanges\/(.*)\/(\d+)$/);
  if (list) {
    response.end(JSON.stringify(exchanges.get(list[1])?.slice(Number(list[2])) ?? []));
    return;
  }
  if (request.url === '/token') begin(request);
  if (request.url === '/oauth/token') await asAuth0(request);
  answer(request, response);
};
http.on('request', serve);
https?.on('request', serve);
https?.on('tlsClientError', (error) => console.log('tlsClientError', error.message));
console.log(`listening on ${port}`);
