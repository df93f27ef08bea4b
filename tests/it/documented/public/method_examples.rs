//! Each public method of the crate and of the testing kit has an example. A reader who finds a
//! method by a search sees how the method is called.
//!
//! The example is on the method, or on its type if that example calls the method. A plain setter
//! needs none: it takes `self` and one value, and returns `Self`.

use serde_json::{Value, json};

use super::Api;
use crate::support::tree::code;

#[test]
#[ignore = "tests/supply.sh makes what it reads"]
fn each_public_method_that_is_no_plain_setter_has_an_example() {
    let mut count = 0;
    let mut missing = Vec::new();
    for name in ["all", "kit"] {
        let api = Api::of(name);
        for owner in api.nameable() {
            for method in methods(&api, owner) {
                count += 1;
                let is_shown = !examples(method).is_empty() || calls(owner, method);
                if !is_shown && !is_plain_setter(method) {
                    missing.push(format!("{}::{}", name_of(owner), name_of(method)));
                }
            }
        }
    }
    assert!(count > 500, "{count} methods were found");
    assert!(missing.is_empty(), "without an example: {missing:#?}");
}

/// Returns the methods of a type or a trait. A function is its own method.
fn methods<'a>(api: &'a Api, owner: &'a Value) -> Vec<&'a Value> {
    let (kind, inner) = owner["inner"].as_object().unwrap().iter().next().unwrap();
    let items: Vec<_> = match kind.as_str() {
        "function" => vec![owner],
        "trait" => api.all(&inner["items"]).collect(),
        "struct" | "enum" => {
            let impls = api.all(&inner["impls"]).map(|item| &item["inner"]["impl"]);
            let own = impls.filter(|own| own["trait"].is_null());
            own.flat_map(|own| api.all(&own["items"])).collect()
        }
        _ => Vec::new(),
    };
    let functions = items.into_iter().filter(|item| is(item, "function"));
    functions.collect()
}

/// Returns the Rust code of an item's examples, without comments and the lines that rustdoc hides.
fn examples(item: &Value) -> String {
    let docs = item["docs"].as_str().unwrap_or_default();
    let blocks = docs.split("```").skip(1).step_by(2);
    let rust = blocks.filter_map(|block| block.trim_start_matches("no_run").strip_prefix('\n'));
    let lines = rust.flat_map(str::lines);
    let shown = lines.filter(|line| !line.starts_with("# "));
    code(&shown.map(|line| format!("{line}\n")).collect::<String>())
}

/// Returns whether the example of a type calls the method. The example of a trait implements it.
fn calls(owner: &Value, method: &Value) -> bool {
    let code = examples(owner);
    let name = name_of(method);
    if is(owner, "trait") {
        return has_words(&code, &format!("fn {name}"));
    }
    let calls = [format!(".{name}("), format!(".{name}::<")];
    let takes_self = inputs(method).first().is_some_and(|one| one[0] == "self");
    takes_self && calls.iter().any(|call| code.contains(call))
        || has_words(&code, &format!("{}::{name}", name_of(owner)))
}

fn is(item: &Value, kind: &str) -> bool {
    !item["inner"][kind].is_null()
}

fn name_of(item: &Value) -> &str {
    item["name"].as_str().unwrap()
}

fn is_plain_setter(method: &Value) -> bool {
    let by_value = json!({ "generic": "Self" });
    let inputs = inputs(method);
    inputs.first() == Some(&json!(["self", by_value]))
        && inputs.len() <= 2
        && method["inner"]["function"]["sig"]["output"] == by_value
}

/// Returns the arguments: for each, its name and its type.
fn inputs(method: &Value) -> &[Value] {
    let inputs = &method["inner"]["function"]["sig"]["inputs"];
    inputs.as_array().map_or(&[], Vec::as_slice)
}

/// Returns whether the code contains the text as whole words.
fn has_words(code: &str, text: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(text).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + text.len()..]);
        !before.ends_with(in_word) && !after.starts_with(in_word)
    })
}
