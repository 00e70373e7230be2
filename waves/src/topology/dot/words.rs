//! DOT cut into words, each with its line.

use std::iter::Peekable;
use std::str::Chars;

use super::super::words::cut;

/// What a text consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// A name or a number; quoted, it is no keyword.
    Id { text: String, is_quoted: bool },
    /// `->` or `--`.
    Edge { is_directed: bool },
    /// One of `{}[]=;,:`, or any other character that means nothing.
    Sign(char),
    /// `"` without its end, `/*` without its end.
    Unended(&'static str),
    /// Nothing more.
    End,
}

impl Word {
    /// Whether it is this keyword, which may be written large or small.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Id { text, is_quoted: false } if text.eq_ignore_ascii_case(keyword))
    }

    pub(super) fn is_keyword(&self) -> bool {
        ["strict", "graph", "digraph", "node", "edge", "subgraph"].iter().any(|keyword| self.is(keyword))
    }

    /// As a message names it.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Id { text, .. } => format!("'{}'", cut(text)),
            Self::Edge { is_directed: true } => "'->'".to_owned(),
            Self::Edge { is_directed: false } => "'--'".to_owned(),
            Self::Sign(sign) => format!("{sign:?}"),
            Self::Unended(what) => format!("{what} without its end"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// The words of a text; behind its end there are as many ends as are asked for.
#[derive(Clone, Debug)]
pub(super) struct Words<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    at_line_start: bool,
}

impl<'a> Words<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        // Windows' editors begin a file with a mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { rest: text.chars().peekable(), line: 1, at_line_start: true }
    }

    fn advance(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        self.at_line_start = next == '\n';
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn skip_line(&mut self) {
        while self.rest.peek().is_some_and(|next| *next != '\n') {
            self.advance();
        }
    }

    /// The next word, and the line where it begins.
    pub(super) fn next(&mut self) -> (usize, Word) {
        loop {
            let (line, at_line_start) = (self.line, self.at_line_start);
            let Some(next) = self.advance() else { return (line, Word::End) };
            let word = match next {
                '#' if at_line_start => {
                    self.skip_line();
                    continue;
                }
                '/' if self.rest.peek() == Some(&'/') => {
                    self.skip_line();
                    continue;
                }
                '/' if self.rest.peek() == Some(&'*') => match self.skip_comment() {
                    Some(()) => continue,
                    None => Word::Unended("a comment"),
                },
                '-' if self.rest.peek() == Some(&'>') => {
                    self.advance();
                    Word::Edge { is_directed: true }
                }
                '-' if self.rest.peek() == Some(&'-') => {
                    self.advance();
                    Word::Edge { is_directed: false }
                }
                '"' => self.quoted(),
                first if first.is_whitespace() => continue,
                first if is_part(first) || (matches!(first, '-' | '.') && self.is_number()) => {
                    self.plain(first)
                }
                other => Word::Sign(other),
            };
            return (line, word);
        }
    }

    /// Whether what follows a sign or a dot makes it a number.
    fn is_number(&mut self) -> bool {
        self.rest.peek().is_some_and(|next| next.is_ascii_digit() || *next == '.')
    }

    fn skip_comment(&mut self) -> Option<()> {
        self.advance();
        loop {
            if self.advance()? == '*' && self.rest.peek() == Some(&'/') {
                self.advance();
                return Some(());
            }
        }
    }

    fn quoted(&mut self) -> Word {
        let mut text = String::new();
        loop {
            match self.advance() {
                None => return Word::Unended("a text in quotes"),
                Some('"') => return Word::Id { text, is_quoted: true },
                Some('\\') => match self.rest.peek() {
                    // A line that goes on.
                    Some('\n') => drop(self.advance()),
                    Some('"' | '\\') => text.extend(self.advance()),
                    // Ends of lines: in the middle, to the left, to the right.
                    Some('n' | 'l' | 'r') => {
                        self.advance();
                        text.push('\n');
                    }
                    // What a drawing program makes of it is its affair.
                    _ => text.push('\\'),
                },
                Some(other) => text.push(other),
            }
        }
    }

    /// A name, or a number with a sign and a fraction.
    fn plain(&mut self, first: char) -> Word {
        let mut text = String::from(first);
        while let Some(next) = self.rest.peek().copied() {
            if !is_part(next) && next != '.' {
                break;
            }
            text.extend(self.advance());
        }
        Word::Id { text, is_quoted: false }
    }
}

fn is_part(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || (!letter.is_ascii() && !letter.is_control())
}
