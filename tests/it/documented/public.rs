//! The public API as rustdoc sees it. The tests check which types of other crates the API contains.
//! The tests also check that each item behind a feature shows that feature on its page, and that
//! each method has an example.
//!
//! `tests/supply.sh` makes rustdoc write this data and then runs these tests. A normal `cargo test`
//! skips these tests, because rustdoc takes too long.

mod method_examples;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::page::Words;
use crate::support::tree::text;

/// The JSON that rustdoc wrote: for the crate with all features (`all`) or with none (`none`), or
/// for the testing kit (`kit`).
struct Api {
    json: Value,
}

fn written() -> PathBuf {
    let folder = env::var_os("PUBLIC_API").expect("`PUBLIC_API` isn't set: run tests/supply.sh");
    PathBuf::from(folder)
}

impl Api {
    fn of(name: &str) -> Self {
        let json = fs::read(written().join(format!("{name}.json"))).unwrap();
        let json = serde_json::from_slice(&json).unwrap();
        Self { json }
    }

    fn item(&self, id: &Value) -> Option<&Value> {
        self.json["index"].get(id.to_string())
    }

    /// Returns the items with these ids that this crate defines.
    fn all<'a>(&'a self, ids: &'a Value) -> impl Iterator<Item = &'a Value> {
        let ids = ids.as_array().unwrap().iter();
        ids.filter_map(|id| self.item(id))
    }

    /// Returns all items that users can name, except modules.
    fn nameable(&self) -> Vec<&Value> {
        self.nameable_in(&self.json["root"])
    }

    fn nameable_in(&self, module: &Value) -> Vec<&Value> {
        let module = self.item(module).unwrap();
        let items = self.all(&module["inner"]["module"]["items"]);
        let items = items.filter_map(|item| match item["inner"].get("use") {
            Some(exported) => self.item(&exported["id"]),
            None => Some(item),
        });
        let nested = items.map(|item| match item["inner"].get("module") {
            Some(_) => self.nameable_in(&item["id"]),
            None => vec![item],
        });
        nested.flatten().collect()
    }

    fn own(&self) -> &Value {
        &self.item(&self.json["root"]).unwrap()["crate_id"]
    }

    /// Returns the crate that defines an item, and the item's name. Returns `None` for an item of
    /// this crate.
    fn defined(&self, id: &Value) -> Option<(&str, &str)> {
        let path = self.json["paths"].get(id.to_string())?;
        if path["crate_id"] == *self.own() {
            return None;
        }
        let name = path["path"].as_array()?.last()?.as_str()?;
        let of = &self.json["external_crates"][path["crate_id"].to_string()];
        Some((of["name"].as_str()?, name))
    }

    /// Returns the types and traits of other crates that appear in signatures, by crate.
    fn foreign(&self) -> BTreeMap<String, Words> {
        let mut found = BTreeMap::new();
        for item in self.json["index"].as_object().unwrap().values() {
            let kind = &item["inner"];
            // Blanket and automatic implementations say nothing about the crate's API.
            let by_compiler = ["blanket_impl", "is_synthetic"];
            let is_general = by_compiler
                .iter()
                .any(|flag| !matches!(kind["impl"][flag], Value::Null | Value::Bool(false)));
            let names_nothing = ["module", "use", "extern_crate"]
                .iter()
                .any(|other| !kind[other].is_null());
            if item["crate_id"] == *self.own() && !is_general && !names_nothing {
                self.look_through(kind, &mut found);
            }
        }
        for standard in ["std", "core", "alloc"] {
            found.remove(standard);
        }
        found
    }

    /// Adds the types and traits in this part of the JSON. Each has an id, and a path as it is
    /// written.
    fn look_through(&self, json: &Value, found: &mut BTreeMap<String, Words>) {
        match json {
            Value::Object(members) => {
                if let (Some(Value::String(_)), Some(id)) = (members.get("path"), members.get("id"))
                    && let Some((of, name)) = self.defined(id)
                {
                    let names: &mut Words = found.entry(of.to_owned()).or_default();
                    names.insert(name.to_owned());
                }
                members
                    .values()
                    .for_each(|inner| self.look_through(inner, found));
            }
            Value::Array(all) => all.iter().for_each(|inner| self.look_through(inner, found)),
            _ => {}
        }
    }

    /// Returns everything that can have its own badge: pages, methods, and trait implementations
    /// for types of other crates.
    fn public(&self) -> BTreeSet<Public> {
        let mut all = BTreeSet::new();
        self.walk(&self.json["root"], &mut Vec::new(), &mut all);
        all
    }

    fn walk(&self, module: &Value, path: &mut Vec<String>, all: &mut BTreeSet<Public>) {
        let items = &self.item(module).unwrap()["inner"]["module"]["items"];
        for id in items.as_array().unwrap() {
            let Some(mut item) = self.item(id) else {
                continue;
            };
            if let Some(exported) = self.item(&item["inner"]["use"]["id"]) {
                item = exported;
            }
            let kinds = item["inner"].as_object().unwrap();
            let (kind, inner) = kinds.iter().next().unwrap();
            let name = item["name"].as_str().unwrap();
            let page = match kind.as_str() {
                "module" => format!("{}{name}/index.html", joined(path)),
                "struct" | "enum" | "trait" => format!("{}{kind}.{name}.html", joined(path)),
                _ => continue,
            };
            all.insert(Public::page(&page));
            match kind.as_str() {
                "module" => {
                    path.push(name.to_owned());
                    self.walk(&item["id"], path, all);
                    path.pop();
                }
                "trait" => {
                    all.extend(self.methods(&inner["items"], &page));
                    all.extend(self.implementations(&inner["implementations"], name, &page));
                }
                _ => {
                    let impls = self.all(&inner["impls"]);
                    for own in impls.filter(|own| own["inner"]["impl"]["trait"].is_null()) {
                        all.extend(self.methods(&own["inner"]["impl"]["items"], &page));
                    }
                }
            }
        }
    }

    fn methods(&self, ids: &Value, page: &str) -> Vec<Public> {
        let methods = self
            .all(ids)
            .filter(|item| !item["inner"]["function"].is_null());
        let names = methods.map(|method| method["name"].as_str().unwrap());
        names
            .map(|name| Public::on(page, format!("method.{name}")))
            .collect()
    }

    /// Returns the implementations of a trait for types of other crates.
    fn implementations(&self, ids: &Value, name: &str, page: &str) -> Vec<Public> {
        let foreign = self.all(ids).filter(|item| {
            let of = &item["inner"]["impl"]["for"]["resolved_path"]["id"];
            self.defined(of).is_some()
        });
        foreign
            .map(|item| Public {
                page: page.to_owned(),
                // The type is left out, because the page may name it by another crate's re-export.
                place: format!("impl-{name}-for-"),
                written: item["span"].to_string(),
            })
            .collect()
    }
}

fn joined(path: &[String]) -> String {
    path.iter().map(|module| format!("{module}/")).collect()
}

/// An item on a page of the documentation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Public {
    page: String,
    /// The anchor on that page. The page itself has an empty anchor.
    place: String,
    /// The position in the code, if the anchor is ambiguous.
    written: String,
}

impl Public {
    fn page(page: &str) -> Self {
        Self::on(page, String::new())
    }

    fn on(page: &str, place: String) -> Self {
        Self {
            page: page.to_owned(),
            place,
            written: String::new(),
        }
    }

    /// Returns the number of badges for this anchor. Several items of a page can have the same
    /// anchor.
    fn badges(&self) -> usize {
        let html = fs::read_to_string(written().join("html").join(&self.page)).unwrap();
        const BADGE: &str = "stab portability";
        if self.place.is_empty() {
            let head = html.split("class=\"docblock").next().unwrap();
            return head.matches(BADGE).count();
        }
        let places = [
            self.place.clone(),
            self.place.replace("method.", "tymethod."),
        ];
        let sections = html.split("<section id=\"").skip(1);
        let own = sections.filter(|section| {
            let id = section.split('"').next().unwrap();
            places.iter().any(|place| {
                let is_any = place.starts_with("impl-") && id.starts_with(place.as_str());
                is_any || id == place
            })
        });
        own.filter(|section| section.contains(BADGE)).count()
    }
}

#[test]
#[ignore = "tests/supply.sh makes what it reads"]
fn what_a_feature_adds_says_so_on_its_page() {
    let always = Api::of("none").public();
    let all = Api::of("all").public();
    let gated_pages: Words = all
        .iter()
        .filter(|item| item.place.is_empty() && !always.contains(item))
        .map(|item| item.page.clone())
        .collect();
    assert!(gated_pages.len() > 20, "{gated_pages:?}");
    let mut wanted: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut shown = BTreeMap::new();
    for item in all.difference(&always) {
        // A page's badge covers every item on it.
        if item.place.is_empty() || !gated_pages.contains(&item.page) {
            let key = (item.page.clone(), item.place.clone());
            *wanted.entry(key.clone()).or_default() += 1;
            shown.insert(key, item.badges());
        }
    }
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(item, count)| shown[*item] < **count)
        .collect();
    assert!(missing.is_empty(), "without a badge: {missing:#?}");
}

/// Returns the listed types, by crate. Each line names a crate, the feature that adds the crate's
/// types to the API, and the types.
fn listed(is_always: bool) -> BTreeMap<String, Words> {
    let list = text("tests/it/documented/public_types.txt");
    let mut all: BTreeMap<String, Words> = BTreeMap::new();
    for line in list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (of, feature) = (words.next().unwrap(), words.next().unwrap());
        if (feature == "always") == is_always {
            all.entry(of).or_default().extend(words);
        }
    }
    all
}

#[test]
#[ignore = "tests/supply.sh makes what it reads"]
fn types_of_other_crates_in_the_api_are_those_on_the_list() {
    let always = Api::of("none").foreign();
    let mut by_feature = Api::of("all").foreign();
    for (of, names) in &always {
        let all = by_feature.get_mut(of).expect("features only add");
        all.retain(|name| !names.contains(name));
    }
    by_feature.retain(|_, names| !names.is_empty());
    assert_eq!(always, listed(true), "without features");
    assert_eq!(by_feature, listed(false), "with all of them");
}

#[test]
fn the_list_of_types_of_other_crates_names_the_features_that_bring_them() {
    let manifest = text("Cargo.toml");
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let list = text("tests/it/documented/public_types.txt");
    let lines = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let mut words = line.split_whitespace();
        let (of, feature) = (words.next().unwrap(), words.next().unwrap());
        let of = of.replace('_', "-");
        let dependency = dependencies
            .lines()
            .find(|line| line.starts_with(&format!("{of} = ")));
        let is_optional = dependency.is_some_and(|line| line.contains("optional = true"));
        let brings = manifest.lines().any(|line| {
            line.starts_with(&format!("{feature} = [")) && line.contains(&format!("\"dep:{of}\""))
        });
        assert_eq!(is_optional, brings, "{line}");
    }
}
