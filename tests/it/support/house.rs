//! The structure of the crate: what each file imports, in which order each folder declares its
//! files, and which names exist. It reads the parsed source, so comments and strings need no
//! special care.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// The path of a module from the crate root: `["cache", "expiry"]`.
pub(crate) type Module = Vec<String>;

/// All modules of the crate and their files.
pub(crate) struct House {
    files: BTreeMap<Module, File>,
}

struct File {
    name: String,
    tokens: TokenStream,
    /// The modules that the file declares, in order.
    declared: Vec<String>,
}

/// A forbidden import.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) file: String,
    pub(crate) import: String,
    pub(crate) why: &'static str,
}

impl House {
    /// Reads the files. `files` maps paths below `src`, such as `cache/expiry.rs`, to their text.
    pub(crate) fn read(files: &BTreeMap<String, String>) -> Self {
        let files = files.iter().map(|(name, text)| {
            let tokens: TokenStream = text
                .parse()
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let declared = declarations(&tokens);
            let file = File {
                name: name.clone(),
                tokens,
                declared,
            };
            (module_of(name), file)
        });
        Self {
            files: files.collect(),
        }
    }

    /// Returns the modules that a module declares, in order.
    pub(crate) fn declared(&self, module: &[&str]) -> &[String] {
        let module: Module = module.iter().map(|&name| name.to_owned()).collect();
        self.files.get(&module).map_or(&[], |file| &file.declared)
    }

    /// Returns the number of imports and the imports that break the rules.
    pub(crate) fn check(&self) -> (usize, Vec<Violation>) {
        let mut count = 0;
        let mut violations = Vec::new();
        // `lib.rs` only declares and re-exports.
        for (module, file) in self.files.iter().filter(|(module, _)| !module.is_empty()) {
            for import in paths(&file.tokens, module) {
                count += 1;
                if let Some(why) = self.objection(module, &import) {
                    violations.push(Violation {
                        file: file.name.clone(),
                        import: import.join("::"),
                        why,
                    });
                }
            }
        }
        (count, violations)
    }

    /// Returns the `mod.rs` files that contain more than docs, declarations and re-exports.
    pub(crate) fn logic_in_mod_files(&self) -> Vec<String> {
        let files = self.files.values();
        let mods = files.filter(|file| file.name.ends_with("mod.rs"));
        let with_logic = mods.filter(|file| has_items(&file.tokens));
        with_logic.map(|file| file.name.clone()).collect()
    }

    fn objection(&self, importer: &Module, import: &[String]) -> Option<&'static str> {
        let target = self.module_part(import);
        let common = importer.iter().zip(target).take_while(|(a, b)| a == b);
        let common = common.count();
        if common == importer.len() {
            // The file imports its own item or an item of a file below it.
            return None;
        }
        if common == target.len() {
            return Some("is an item of a folder above the file: name the file that has it");
        }
        let order = &self.files.get(&importer[..common])?.declared;
        let place = |name: &String| order.iter().position(|declared| declared == name);
        let is_before = place(&target[common]) < place(&importer[common]);
        (!is_before).then_some("is declared after the file")
    }

    /// Returns the part of a path that names a module.
    fn module_part<'a>(&self, path: &'a [String]) -> &'a [String] {
        let lengths = (0..=path.len()).rev();
        let mut modules = lengths.map(|length| &path[..length]);
        let known = modules.find(|module| self.files.contains_key(*module));
        known.unwrap_or_default()
    }
}

fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let parts = path.split('/').filter(|part| *part != "lib");
    parts.map(str::to_owned).collect()
}

/// Returns the modules that a file declares (`mod name;`).
fn declarations(tokens: &TokenStream) -> Vec<String> {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let declared = tokens.windows(3).filter_map(|window| match window {
        [
            TokenTree::Ident(keyword),
            TokenTree::Ident(name),
            TokenTree::Punct(end),
        ] if keyword == "mod" && end.as_char() == ';' => Some(name.to_string()),
        _ => None,
    });
    declared.collect()
}

/// Returns each path that begins with `crate`, `super` or `self`, resolved from the crate root.
fn paths(tokens: &TokenStream, module: &Module) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    collect(tokens, module, &mut found);
    found
}

fn collect(tokens: &TokenStream, module: &Module, found: &mut Vec<Vec<String>>) {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        rest = match (token, after) {
            (
                TokenTree::Ident(keyword),
                [TokenTree::Ident(name), TokenTree::Group(body), after @ ..],
            ) if keyword == "mod" => {
                let mut inner = module.clone();
                inner.push(name.to_string());
                collect(&body.stream(), &inner, found);
                after
            }
            (TokenTree::Ident(start), _) if starts_path(start) && is_separator(after) => {
                tree(rest, module, found)
            }
            (TokenTree::Group(group), _) => {
                collect(&group.stream(), module, found);
                after
            }
            _ => after,
        };
    }
}

fn starts_path(ident: &Ident) -> bool {
    ident == "crate" || ident == "super" || ident == "self"
}

fn is_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ':');
    matches!(tokens, [one, other, ..] if is_colon(one) && is_colon(other))
}

/// Reads one path or one `use` tree, and returns the remaining tokens.
fn tree<'a>(
    mut tokens: &'a [TokenTree],
    base: &Module,
    found: &mut Vec<Vec<String>>,
) -> &'a [TokenTree] {
    let mut path = base.clone();
    loop {
        match tokens {
            [TokenTree::Ident(name), after @ ..] => {
                match name.to_string().as_str() {
                    "crate" => path.clear(),
                    "self" => {}
                    "super" => drop(path.pop()),
                    name => path.push(name.to_owned()),
                }
                if !is_separator(after) {
                    found.push(path);
                    return after;
                }
                tokens = &after[2..];
            }
            [TokenTree::Group(group), after @ ..] if group.delimiter() == Delimiter::Brace => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                let is_comma =
                    |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
                let branches = inside.split(is_comma);
                for branch in branches.filter(|branch| !branch.is_empty()) {
                    tree(branch, &path, found);
                }
                return after;
            }
            // A `*`, or the `<` of a turbofish.
            _ => {
                found.push(path);
                return tokens;
            }
        }
    }
}

fn has_items(tokens: &TokenStream) -> bool {
    let is_item = |name: &Ident| {
        let keywords = [
            "struct", "enum", "trait", "type", "fn", "impl", "const", "static",
        ];
        keywords.iter().any(|keyword| name == keyword)
    };
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(name) => is_item(&name),
        _ => false,
    })
}

/// Returns the names of a file's items, variants and fields.
pub(crate) fn names(text: &str) -> Vec<String> {
    let tokens: TokenStream = text.parse().unwrap();
    let mut names = Vec::new();
    collect_names(tokens, &mut names);
    names
}

fn collect_names(tokens: TokenStream, names: &mut Vec<String>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        match (token, tokens.get(at + 1)) {
            (TokenTree::Ident(keyword), Some(TokenTree::Ident(name))) if gives_a_name(keyword) => {
                names.push(name.to_string());
                if keyword == "enum" || keyword == "struct" {
                    names.extend(variants_or_fields(&tokens[at + 1..]));
                }
            }
            (TokenTree::Group(group), _) => collect_names(group.stream(), names),
            _ => {}
        }
    }
}

fn gives_a_name(keyword: &Ident) -> bool {
    let keywords = [
        "struct", "enum", "trait", "type", "fn", "mod", "const", "static",
    ];
    keywords.iter().any(|name| keyword == name)
}

/// Returns the variants or fields of the type whose name is the first token.
fn variants_or_fields(tokens: &[TokenTree]) -> Vec<String> {
    let is =
        |token: &TokenTree, mark: char| matches!(token, TokenTree::Punct(p) if p.as_char() == mark);
    let mut head = tokens.iter().take_while(|token| !is(token, ';'));
    let body = head.find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
        _ => None,
    });
    let body: Vec<TokenTree> = body.into_iter().flatten().collect();
    let parts = body.split(|token| is(token, ','));
    let names = parts.filter_map(|part| {
        let mut idents = part.iter().filter_map(|token| match token {
            TokenTree::Ident(ident) => Some(ident.to_string()),
            _ => None,
        });
        idents.find(|ident| ident != "pub")
    });
    names.collect()
}
