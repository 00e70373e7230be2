//! One question. A table and JSON are made of the cursor's chunks, which say how complete they are before the first
//! record; NDJSON and CSV are streamed by the overlay as they are.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};
use slipring_overlay::date::Date;
use tokio::time::Instant;

use super::coverage::{Said, counts};
use super::format::{self, Document, Format};
use super::{Failure, stream};
use crate::client::INCOMPLETE;
use crate::client::call::{Balancer, Call, Session};
use crate::text::counted;

#[derive(clap::Args)]
pub(in crate::client) struct Arguments {
    /// What was measured: OZONE, PM2.5, PM10, NO2, SO2 or CO; anything if it is not said.
    parameter: Option<String>,
    /// The smallest concentration.
    #[arg(allow_negative_numbers = true, value_parser = finite)]
    min: Option<f64>,
    /// The largest one.
    #[arg(allow_negative_numbers = true, value_parser = finite)]
    max: Option<f64>,
    /// Days as YYYYMMDD, both included; either may be left out, and A alone is one day.
    #[arg(long, value_name = "A..B")]
    dates: Option<Dates>,
    /// At most so many records, the first ones; all if it is not said.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How the records are written; whatever else is told then goes to standard error.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Take what there is; what is missing is told, and the exit code is 4.
    #[arg(long)]
    partial: bool,
    /// Tell the time each process took for its partitions when the answer was made.
    #[arg(long)]
    explain: bool,
}

/// What `--dates` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dates {
    first: Option<Date>,
    last: Option<Date>,
}

impl FromStr for Dates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = |text: &str| match text {
            "" => Ok(None),
            _ => text.parse().map(Some).map_err(|error: slipring_overlay::date::NoDate| error.to_string()),
        };
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(text)?, day(text)?),
        };
        if first.is_none() && last.is_none() {
            return Err("days look like 20200810..20200820".into());
        }
        Ok(Self { first, last })
    }
}

fn finite(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| "it is no number".into())
}

impl Arguments {
    fn question(&self) -> Value {
        let Dates { first, last } = self.dates.unwrap_or(Dates { first: None, last: None });
        let mut question = Map::new();
        let mut add = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                question.insert(name.into(), value);
            }
        };
        add("parameter", self.parameter.clone().map(Value::from));
        add("min_value", self.min.map(Value::from));
        add("max_value", self.max.map(Value::from));
        add("date_start", first.map(|date| date.to_string().into()));
        add("date_end", last.map(|date| date.to_string().into()));
        add("limit", self.limit.map(Value::from));
        add("mode", self.partial.then(|| "partial".into()));
        question.into()
    }

    pub(in crate::client) async fn run(&self, balancer: &Balancer, as_json: bool) -> ExitCode {
        let format = self.format.unwrap_or(if as_json { Format::Json } else { Format::Table });
        let (session, url) = (balancer.session(), balancer.url());
        let mut asking = Asking { arguments: self, session, url, missing: None };
        match asking.run(format).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(INCOMPLETE),
            Err(failure) => match asking.missing {
                // Whoever has read enough has not read that this is not all.
                Some(words) if failure.is_enough() => {
                    eprint!("{words}");
                    ExitCode::from(INCOMPLETE)
                }
                _ => failure.told(),
            },
        }
    }
}

struct Asking<'a> {
    arguments: &'a Arguments,
    session: Session<'a>,
    url: &'a str,
    /// What the answer says is missing.
    missing: Option<String>,
}

impl Asking<'_> {
    /// Whether the answer is complete.
    async fn run(&mut self, format: Format) -> Result<bool, Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        match format {
            Format::Table => self.table(&mut out).await,
            Format::Json => self.json(&mut out).await,
            Format::Ndjson => self.stream(&mut out, stream::Kind::Ndjson).await,
            Format::Csv => self.stream(&mut out, stream::Kind::Csv).await,
        }
    }

    /// What the answer says of itself, as it came and understood, and how long that took.
    async fn ask(&mut self) -> Result<(String, Said, Duration), Failure> {
        let began = Instant::now();
        let answer = self.session.send(&Call::query(self.arguments.question(), "application/json")).await?;
        if !answer.is_success() {
            return Err(Failure::of(&answer));
        }
        let said = serde_json::from_str(&answer.body);
        let said: Said = said.map_err(|error| Failure::Strange(self.url.to_owned(), error))?;
        self.missing = (!is_complete(&said)).then(|| said.coverage.words());
        Ok((answer.body, said, began.elapsed()))
    }

    /// Hands every chunk to `take`, which says how many records it has.
    async fn chunks(
        &mut self,
        said: &Said,
        mut take: impl FnMut(&str) -> io::Result<u64>,
    ) -> Result<(), Failure> {
        let mut records = 0;
        let so_far = |records, words: &str| {
            let there = counted(records, "record");
            Failure::Incomplete(format!("{there} of {} came: {words}", counted(said.returned, "record")))
        };
        for index in 0..said.chunks {
            let call = Call::get(&format!("/overlay/query/{}/{index}", said.uid));
            let answer =
                self.session.send(&call).await.map_err(|error| so_far(records, &error.to_string()))?;
            if !answer.is_success() {
                return Err(so_far(
                    records,
                    &format!("chunk {index} is {}; ask again", answer.text().trim()),
                ));
            }
            records += take(&answer.body)?;
        }
        if records != said.returned {
            return Err(so_far(records, "its chunks hold no more"));
        }
        Ok(())
    }

    async fn table(&mut self, out: &mut impl Write) -> Result<bool, Failure> {
        let (_, said, asked) = self.ask().await?;
        let began = Instant::now();
        format::heads(out)?;
        self.chunks(&said, |chunk| format::rows(out, chunk)).await?;
        write!(out, "\n{}\n{}", counts(said.returned, said.matched), said.coverage.words())?;
        if self.arguments.explain {
            write!(out, "\n{}", explained(&said, asked, Some(began.elapsed())))?;
        }
        out.flush()?;
        Ok(is_complete(&said))
    }

    async fn json(&mut self, out: &mut impl Write) -> Result<bool, Failure> {
        let (text, said, asked) = self.ask().await?;
        let began = Instant::now();
        let mut document = Document::default();
        document.begin(out, &text)?;
        self.chunks(&said, |chunk| document.add(out, chunk)).await?;
        document.end(out)?;
        out.flush()?;
        if self.arguments.explain {
            eprint!("{}", explained(&said, asked, Some(began.elapsed())));
        }
        Ok(self.told(&said))
    }

    async fn stream(&mut self, out: &mut impl Write, kind: stream::Kind) -> Result<bool, Failure> {
        // A stream does not say which partitions are missing, nor who took how long.
        let said = match self.arguments.explain || self.arguments.partial {
            true => Some(self.ask().await?),
            false => None,
        };
        let streamed = stream::run(&mut self.session, self.arguments.question(), kind, out).await?;
        out.flush()?;
        eprintln!("{}", counts(streamed.returned, streamed.matched));
        let Some((_, said, asked)) = said else { return Ok(streamed.missing == 0) };
        if self.arguments.explain {
            eprint!("{}", explained(&said, asked, None));
        }
        if streamed.missing != said.coverage.missing.len() as u64 {
            let missing = counted(streamed.missing, "partition");
            return Err(Failure::Incomplete(format!("{missing} missing, other ones than a moment before")));
        }
        Ok(self.told(&said))
    }

    /// Says what is missing where nobody takes it for records; whether nothing is.
    fn told(&self, said: &Said) -> bool {
        if !is_complete(said) {
            eprint!("{}", said.coverage.words());
        }
        is_complete(said)
    }
}

fn is_complete(said: &Said) -> bool {
    said.status == "ready" && said.coverage.missing.is_empty()
}

fn explained(said: &Said, asked: Duration, read: Option<Duration>) -> String {
    let read = read.map_or_else(String::new, |read| format!(", its records read after {read:.1?} more"));
    format!("{}answered in {asked:.1?}{read}\n", said.coverage.explained())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_two_ends_one_or_are_one() {
        let day = |text: &str| Some(text.parse::<Date>().unwrap());
        let parse = |text: &str| text.parse::<Dates>().map(|dates| (dates.first, dates.last));
        assert_eq!(parse("20200810..20200820"), Ok((day("20200810"), day("20200820"))));
        assert_eq!(parse("20200810.."), Ok((day("20200810"), None)));
        assert_eq!(parse("..20200820"), Ok((None, day("20200820"))));
        assert_eq!(parse("20200810"), Ok((day("20200810"), day("20200810"))));
        for wrong in ["", "..", "2020", "20200931", "20200810...20200820", "a..b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
