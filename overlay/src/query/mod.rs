//! A question, read from a client's JSON and normalised, so that equal questions are equal bytes.

mod uid;

use serde::{Deserialize, Deserializer, Serialize};

pub use uid::{Basis, Layout, Uid, UidError};

use crate::date::Date;

/// Bytes of the JSON text; no honest question needs them.
const LONGEST: usize = 16 << 10;
/// Bytes of a parameter's and a team's name.
const LONGEST_NAME: usize = 256;

/// Why it is no question; the words follow `invalid_query:`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidQuery(String);

impl InvalidQuery {
    /// What is wrong is beside the question.
    pub(crate) fn other(words: String) -> Self {
        Self(words)
    }

    /// It names a team that is not there.
    pub(crate) fn no_team<'a>(team: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let shown: String = team.chars().take(40).flat_map(char::escape_debug).collect();
        Self(format!("no team is called '{shown}'; there are {}", known.collect::<Vec<_>>().join(", ")))
    }
}

/// What a client asks for. Bounds are inclusive; what is absent does not matter.
///
/// A record without a concentration (-999 in the data) meets no bound on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// In capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Of the concentration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_value: Option<f64>,
    /// Of the concentration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_value: Option<f64>,
    /// The first day.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "day",
        serialize_with = "digits"
    )]
    pub date_start: Option<Date>,
    /// The last day.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "day",
        serialize_with = "digits"
    )]
    pub date_end: Option<Date>,
    /// Degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lat_min: Option<f64>,
    /// Degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lat_max: Option<f64>,
    /// Degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lon_min: Option<f64>,
    /// Degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lon_max: Option<f64>,
    /// At most so many records, the first ones; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Only what the workers of this team hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Whether an incomplete answer is one.
    #[serde(default, skip_serializing_if = "Mode::is_complete")]
    pub mode: Mode,
}

/// Whether an incomplete answer is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything, or an error that names what is missing.
    #[default]
    Complete,
    /// What there is.
    Partial,
}

impl Mode {
    fn is_complete(&self) -> bool {
        *self == Self::Complete
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Day {
    Text(String),
    Number(u32),
}

fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Date>, D::Error> {
    let text = match Option::<Day>::deserialize(deserializer)
        .map_err(|_| serde::de::Error::custom("a date is a string of eight digits, YYYYMMDD"))?
    {
        None => return Ok(None),
        Some(Day::Text(text)) => text,
        Some(Day::Number(number)) => number.to_string(),
    };
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

#[expect(clippy::ref_option, reason = "serde's shape")]
fn digits<S: serde::Serializer>(date: &Option<Date>, serializer: S) -> Result<S::Ok, S::Error> {
    match date {
        Some(date) => serializer.collect_str(date),
        None => serializer.serialize_none(),
    }
}

impl Query {
    /// Reads what a client sent as `query_type` and `query_params`.
    ///
    /// # Errors
    /// In words for the client.
    pub fn parse(query_type: &str, params: &str) -> Result<Self, InvalidQuery> {
        if query_type != "filter" {
            let shown: String = query_type.chars().take(40).collect();
            return Err(InvalidQuery(format!("query_type '{shown}' is not 'filter'")));
        }
        Self::from_json(params)
    }

    /// Reads a JSON object.
    ///
    /// # Errors
    /// In words for the client.
    pub fn from_json(text: &str) -> Result<Self, InvalidQuery> {
        if text.len() > LONGEST {
            return Err(InvalidQuery(format!("it has {} bytes, more than {LONGEST}", text.len())));
        }
        // A list would be taken for the fields in their order.
        if !text.trim_start().starts_with('{') {
            return Err(InvalidQuery("it is not a JSON object".into()));
        }
        let query: Self = serde_json::from_str(text).map_err(|error| InvalidQuery(error.to_string()))?;
        query.normalised()
    }

    fn normalised(mut self) -> Result<Self, InvalidQuery> {
        // First: capitals may be longer.
        self.parameter = self.parameter.map(|parameter| parameter.to_uppercase());
        for (name, text) in [("parameter", &self.parameter), ("team", &self.team)] {
            if text.as_ref().is_some_and(|text| text.len() > LONGEST_NAME) {
                return Err(InvalidQuery(format!("{name} is longer than {LONGEST_NAME} bytes")));
            }
        }
        let bounds = [
            ("value", &mut self.min_value, &mut self.max_value),
            ("lat", &mut self.lat_min, &mut self.lat_max),
            ("lon", &mut self.lon_min, &mut self.lon_max),
        ];
        for (name, min, max) in bounds {
            for bound in [&mut *min, &mut *max].into_iter().flatten() {
                *bound += 0.0; // -0 is 0
            }
            if let (Some(min), Some(max)) = (min, max)
                && min > max
            {
                return Err(InvalidQuery(format!("the smallest {name}, {min}, is above the largest, {max}")));
            }
        }
        if let (Some(first), Some(last)) = (self.date_start, self.date_end)
            && first > last
        {
            return Err(InvalidQuery(format!("date_start, {first}, is after date_end, {last}")));
        }
        Ok(self)
    }

    /// Equal questions have equal texts; what it says is what [`Query::from_json`] reads.
    pub fn normal_form(&self) -> String {
        serde_json::to_string(self).expect("numbers are finite and keys are text")
    }

    /// What a partition is asked: neither how many records nor how complete.
    pub fn conditions(&self) -> Self {
        Self {
            limit: None,
            mode: Mode::Complete,
            team: None,
            date_start: None,
            date_end: None,
            ..self.clone()
        }
    }

    /// Whether it matters where a record was measured.
    pub fn has_place(&self) -> bool {
        [self.lat_min, self.lat_max, self.lon_min, self.lon_max].iter().any(Option::is_some)
    }

    /// Whether a day can hold an answer.
    pub fn concerns(&self, date: Date) -> bool {
        self.date_start.is_none_or(|first| date >= first) && self.date_end.is_none_or(|last| date <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_questions_have_equal_texts() {
        let normal = |text: &str| Query::from_json(text).unwrap().normal_form();
        assert_eq!(
            normal(
                r#" {"max_value": 35, "parameter": "pm2.5", "min_value": 5.0, "team": null, "mode": "complete"}"#
            ),
            r#"{"parameter":"PM2.5","min_value":5.0,"max_value":35.0}"#
        );
        assert_eq!(
            normal(r#"{"date_start":20200810,"min_value":-0}"#),
            normal(r#"{"min_value":0.0,"date_start":"20200810"}"#)
        );
    }

    #[test]
    fn what_is_no_question_is_told_why() {
        for (text, words) in [
            ("", "it is not a JSON object"),
            ("[]", "it is not a JSON object"),
            ("null", "it is not a JSON object"),
            ("{", "EOF while parsing an object"),
            (r#"{"colour":1}"#, "unknown field `colour`, expected one of `parameter`, `min_value`"),
            (r#"{"limit":-1}"#, "invalid value: integer `-1`, expected u64"),
            (r#"{"limit":1.5}"#, "invalid type: floating point `1.5`, expected u64"),
            (r#"{"min_value":"5"}"#, "invalid type: string \"5\", expected f64"),
            (r#"{"min_value":1e999}"#, "number out of range"),
            (r#"{"min_value":5,"min_value":6}"#, "duplicate field `min_value`"),
            (r#"{"min_value":6,"max_value":5}"#, "the smallest value, 6, is above the largest, 5"),
            (
                r#"{"date_start":"20200901","date_end":"20200831"}"#,
                "date_start, 20200901, is after date_end, 20200831",
            ),
            (r#"{"date_start":"20200931"}"#, "'20200931' is no date"),
            (r#"{"date_start":true}"#, "a date is a string of eight digits"),
            (r#"{"mode":"some"}"#, "unknown variant `some`, expected `complete` or `partial`"),
            (r#"{"parameter":"a"} x"#, "trailing characters"),
        ] {
            let error = Query::from_json(text).unwrap_err().to_string();
            assert!(error.starts_with(words), "{text}: {error}");
        }
        assert_eq!(Query::parse("sum", "{}").unwrap_err().to_string(), "query_type 'sum' is not 'filter'");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_question_or_an_error(text in "\\PC{0,60}") {
            drop(Query::from_json(&text));
        }

        #[test]
        fn the_normal_form_says_the_same(min in proptest::option::of(-1e6_f64..1e6), limit in proptest::option::of(0_u64..u64::MAX), parameter in proptest::option::of("\\PC{0,10}")) {
            let query = Query { min_value: min, limit, parameter, ..Query::default() }.normalised().unwrap();
            proptest::prop_assert_eq!(Query::from_json(&query.normal_form()).unwrap(), query);
        }
    }
}
