//! Templates that differ in one word which takes many values are one template.
//!
//! A user's name, a host, a table: no rule on the word alone can tell them from the words around them, but many templates
//! that are equal except for one place can. Four values at least, because "opened" and "closed" are two messages. Each
//! round looks at all templates at once; ties go by text, so the result is a function of the set of templates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// What stands for a word that varies.
const ANY: &str = "<*>";
/// So many values make a place one that varies.
const VALUES: usize = 4;
/// Words of a template, at least: of a shorter one too little is left to know it by.
const WORDS: usize = 3;
/// Places of a template that may come to vary.
const ROUNDS: usize = 3;

/// A template, how often it occurred, and its smallest example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub text: String,
    pub count: u64,
    pub example: String,
}

/// Merges near ones; the most frequent come first, equally frequent ones by text.
pub(super) fn merged(templates: impl Iterator<Item = Template>) -> Vec<Template> {
    let mut by_text = BTreeMap::new();
    for template in templates {
        add(&mut by_text, template);
    }
    for _round in 0..ROUNDS {
        if !round(&mut by_text) {
            break;
        }
    }
    let mut templates: Vec<Template> = by_text.into_values().collect();
    templates.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.text.cmp(&other.text)));
    templates
}

fn add(by_text: &mut BTreeMap<String, Template>, template: Template) {
    match by_text.get_mut(&template.text) {
        Some(own) => {
            own.count += template.count;
            if template.example < own.example {
                own.example = template.example;
            }
        }
        None => {
            by_text.insert(template.text.clone(), template);
        }
    }
}

/// Merges each template into its largest group, if that has enough values; whether any were merged.
fn round(by_text: &mut BTreeMap<String, Template>) -> bool {
    let texts: Vec<&str> = by_text.keys().map(String::as_str).collect();
    // Hashes, not texts: there are as many as words in all templates.
    let mut places: Vec<(u128, u32, u32)> = Vec::new();
    for (number, text) in (0..).zip(&texts) {
        places.extend(
            open_places(text).map(|place| (xxh3_128(widened(text, place).as_bytes()), number, place)),
        );
    }
    places.sort_unstable();
    let groups = places.chunk_by(|one, other| one.0 == other.0).filter(|members| members.len() >= VALUES);
    let mut groups: Vec<(String, Vec<String>)> = groups
        .map(|members| {
            let text = |number: u32| texts[number as usize];
            let (_, first, place) = members[0];
            (widened(text(first), place), members.iter().map(|member| text(member.1).to_owned()).collect())
        })
        .collect();
    groups.sort_by(|one, other| other.1.len().cmp(&one.1.len()).then_with(|| one.0.cmp(&other.0)));
    let mut any = false;
    for (widened, members) in groups {
        // Some may have gone into a larger group.
        let left: Vec<String> = members.into_iter().filter(|text| by_text.contains_key(text)).collect();
        if left.len() < VALUES {
            continue;
        }
        for text in left {
            if let Some(template) = by_text.remove(&text) {
                add(by_text, Template { text: widened.clone(), ..template });
                any = true;
            }
        }
    }
    any
}

/// The places of words that may be left open. Placeholders are open already, and more than half the words have to be fixed.
fn open_places(text: &str) -> impl Iterator<Item = u32> {
    let fixed = |word: &str| !word.is_empty() && !word.contains('<');
    let words = text.split(' ').count();
    let enough = words >= WORDS && text.split(' ').filter(|word| fixed(word)).count() > words / 2;
    let places = (0..).zip(text.split(' ')).filter(move |(_, word)| enough && fixed(word));
    places.map(|(place, _)| place)
}

/// The template with the word at a place left open.
fn widened(text: &str, place: u32) -> String {
    let words = (0..).zip(text.split(' ')).map(|(at, word)| if at == place { ANY } else { word });
    words.collect::<Vec<_>>().join(" ")
}
