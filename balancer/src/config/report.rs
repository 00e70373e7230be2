//! Every mistake at once, each with the place where it was written and what would be right.

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

    pub(super) fn unknown(key: &str, origin: Origin, nearest: Option<&str>) -> Self {
        let expected = match nearest {
            Some(nearest) => format!("the key is called `{nearest}`"),
            None => "`slipring balancer --print-config` lists the keys there are".to_owned(),
        };
        Self { origin, title: format!("there is no key `{key}`"), expected }
    }
}

/// A configuration that is not obeyed, with all its mistakes.
#[derive(Clone, Debug)]
pub struct ConfigError {
    file: Option<(String, String)>,
    mistakes: Vec<Mistake>,
}

impl ConfigError {
    pub(super) fn new(file: Option<(String, String)>, mistakes: Vec<Mistake>) -> Self {
        Self { file, mistakes }
    }

    /// What was wrong, in no particular order.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    fn describe(&self, mistake: &Mistake) -> String {
        let plain =
            |place: String| format!("error: {}\n --> {place}\n  = {}", mistake.title, mistake.expected);
        match (&mistake.origin, &self.file) {
            (Origin::File(span), Some((name, text))) => {
                let span = span.start.min(text.len())..span.end.min(text.len());
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

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{}\n", self.describe(mistake))?;
        }
        let count = self.mistakes.len();
        write!(
            f,
            "{count} mistake{} in the configuration; nothing was started",
            if count == 1 { "" } else { "s" }
        )
    }
}

impl std::error::Error for ConfigError {}
