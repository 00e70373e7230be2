//! Every mistake at once, each with the place where it was written and what would be right.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use super::reader::Origin;

/// One thing wrong with the configuration.
#[derive(Clone, Debug)]
pub struct Mistake {
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong.
    pub title: String,
    /// What would be right.
    pub expected: String,
}

impl Mistake {
    pub(super) fn syntax(origin: Origin, message: &str) -> Self {
        Self { origin, title: "this is not TOML".into(), expected: message.to_owned() }
    }

    pub(super) fn value(key: &str, origin: Origin, expected: &str) -> Self {
        Self {
            origin,
            title: format!("`{key}` cannot have this value"),
            expected: format!("expected {expected}"),
        }
    }

    pub(super) fn not_text(variable: &str) -> Self {
        Self {
            origin: Origin::Environment(variable.to_owned()),
            title: format!("the environment variable `{variable}` is no text"),
            expected: "expected a name and a value in UTF-8".to_owned(),
        }
    }

    pub(super) fn unknown(key: &str, origin: Origin, advice: &str) -> Self {
        Self { origin, title: format!("there is no key `{key}`"), expected: advice.to_owned() }
    }
}

/// A configuration that is not obeyed, with all its mistakes.
#[derive(Clone, Debug)]
pub struct ConfigError {
    file: Option<(String, String)>,
    mistakes: Vec<Mistake>,
    /// Last words of keys: lines of the file that have one are not shown.
    secrets: Vec<String>,
}

impl ConfigError {
    pub(super) fn new(
        file: Option<(String, String)>,
        mistakes: Vec<Mistake>,
        secrets: &[&'static str],
    ) -> Self {
        let word = |key: &&str| key.rsplit('.').next().unwrap_or_default().to_owned();
        Self { file, mistakes, secrets: secrets.iter().map(word).collect() }
    }

    /// What was wrong, in no particular order.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Whether a secret could be in the lines of `span`, also misspelt or in what is not TOML.
    fn is_secret(&self, mistake: &Mistake, text: &str, span: &Range<usize>) -> bool {
        let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
        let line = text[start..end].to_lowercase();
        self.secrets.iter().any(|word| line.contains(word) || mistake.expected.contains(&format!(".{word}`")))
    }

    fn describe(&self, mistake: &Mistake) -> String {
        let plain =
            |place: String| format!("error: {}\n --> {place}\n  = {}", mistake.title, mistake.expected);
        match (&mistake.origin, &self.file) {
            (Origin::File(span), Some((name, text))) => {
                let Some(span) = visible(span, text) else { return plain(format!("the end of {name}")) };
                if self.is_secret(mistake, text, &span) {
                    let line = text[..span.start].matches('\n').count() + 1;
                    return plain(format!("{name}:{line}"));
                }
                let place = AnnotationKind::Primary.span(span).label(&mistake.expected);
                let snippet = Snippet::source(text).path(name).annotation(place);
                Renderer::plain().render(&[Level::ERROR.primary_title(&mistake.title).element(snippet)])
            }
            (Origin::Environment(variable), _) => plain(format!("environment variable {variable}")),
            (Origin::Flag, _) => plain("command line".to_owned()),
            (Origin::Default | Origin::File(_), _) => plain("the default".to_owned()),
        }
    }
}

/// The part of `span` that can be underlined: within one line, whole characters, at least one. The renderer takes
/// nothing else.
fn visible(span: &Range<usize>, text: &str) -> Option<Range<usize>> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let line_end = text[start..].find(['\r', '\n']).map_or(text.len(), |at| start + at);
    let end = text.ceil_char_boundary(span.end.min(line_end));
    let one = text[start..line_end].chars().next().map(char::len_utf8)?;
    Some(start..end.max(start + one))
}

impl ConfigError {
    /// All of them, and what came of it: `nothing was started`.
    pub fn told(&self, outcome: &str) -> String {
        let count = self.mistakes.len();
        let mut text: String =
            self.mistakes.iter().map(|mistake| format!("{}\n\n", self.describe(mistake))).collect();
        text.push_str(&format!(
            "{count} mistake{} in the configuration; {outcome}",
            if count == 1 { "" } else { "s" }
        ));
        text
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.told("nothing was started"))
    }
}

impl std::error::Error for ConfigError {}
