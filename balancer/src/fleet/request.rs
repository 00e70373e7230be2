//! Requests to change the membership, checked in the contract's order before anything changes.

use std::collections::HashSet;

use rand::Rng;
use serde_json::Value;

use super::names;

/// Why a change is refused. `Display` is what the client reads after `<Error> `.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// No body, or not a JSON object.
    #[error("payload missing: send a JSON object like {{\"n\":1,\"hostnames\":[\"S5\"]}}")]
    Payload,
    /// `n` is missing, not an integer, or below 1.
    #[error("n must be an integer of at least 1")]
    Count,
    /// `hostnames` is not a list of texts.
    #[error("hostnames must be a list of strings")]
    Hostnames,
    /// More names than replicas to add.
    #[error("Length of hostname list is more than newly added instances")]
    MoreNamesThanAdded,
    /// More names than replicas to remove.
    #[error("Length of hostname list is more than removable instances")]
    MoreNamesThanRemoved,
    /// A name twice.
    #[error("hostname '{0}' is given twice")]
    Duplicate(String),
    /// Not a DNS label.
    #[error("hostname '{0}' is invalid: use 1 to 63 letters, digits and hyphens, no hyphen at either end")]
    Invalid(String),
    /// The ring is full.
    #[error("not enough slots: {0} more replicas fit")]
    Full(usize),
    /// A member has that name.
    #[error("hostname '{0}' is already in use")]
    Taken(String),
    /// More to remove than there are.
    #[error("n is larger than the number of replicas: there are {0}")]
    TooFew(usize),
    /// No member has that name.
    #[error("there is no replica '{0}'; GET /rep lists them")]
    Unknown(String),
    /// The members are given.
    #[error(
        "the members of this pool are the processes of its overlay: change overlay.topology and restart the balancer"
    )]
    Fixed,
    /// The balancer is on its way out.
    #[error("the balancer is shutting down")]
    ShuttingDown,
}

/// A well-formed request: so many replicas, these names among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How many.
    pub n: usize,
    /// Names given.
    pub hostnames: Vec<String>,
}

impl Change {
    /// Reads a body, whatever its Content-Type said.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let Ok(Value::Object(payload)) = serde_json::from_slice(body) else {
            return Err(RequestError::Payload);
        };
        let n = payload
            .get("n")
            .and_then(Value::as_i64)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n >= 1);
        let n = n.ok_or(RequestError::Count)?;
        let hostnames = match payload.get("hostnames") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or(RequestError::Hostnames))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(RequestError::Hostnames),
        };
        Ok(Self { n, hostnames })
    }

    fn duplicate(&self) -> Option<&String> {
        let mut seen = HashSet::new();
        self.hostnames.iter().find(|name| !seen.insert(name.as_str()))
    }

    /// The names to add: those given, then random ones with this `prefix`. `members` are in use, `room` more fit.
    pub fn names_to_add(
        &self,
        members: &[String],
        room: usize,
        prefix: &str,
        rng: &mut impl Rng,
        unix_ms: u64,
    ) -> Result<Vec<String>, RequestError> {
        if self.hostnames.len() > self.n {
            return Err(RequestError::MoreNamesThanAdded);
        }
        if let Some(name) = self.duplicate() {
            return Err(RequestError::Duplicate(name.clone()));
        }
        if let Some(name) = self.hostnames.iter().find(|name| !names::is_valid(name)) {
            return Err(RequestError::Invalid(name.clone()));
        }
        if self.n > room {
            return Err(RequestError::Full(room));
        }
        let mut taken: HashSet<String> = members.iter().cloned().collect();
        if let Some(name) = self.hostnames.iter().find(|name| taken.contains(*name)) {
            return Err(RequestError::Taken(name.clone()));
        }
        let mut chosen = self.hostnames.clone();
        taken.extend(chosen.iter().cloned());
        while chosen.len() < self.n {
            let name = names::random(prefix, rng, unix_ms, |name| taken.contains(name));
            taken.insert(name.clone());
            chosen.push(name);
        }
        Ok(chosen)
    }

    /// The names to remove: those given, the rest picked at random from `members`.
    pub fn names_to_remove(
        &self,
        members: &[String],
        rng: &mut impl Rng,
    ) -> Result<Vec<String>, RequestError> {
        if self.n > members.len() {
            return Err(RequestError::TooFew(members.len()));
        }
        if self.hostnames.len() > self.n {
            return Err(RequestError::MoreNamesThanRemoved);
        }
        if let Some(name) = self.duplicate() {
            return Err(RequestError::Duplicate(name.clone()));
        }
        if let Some(name) = self.hostnames.iter().find(|name| !members.contains(name)) {
            return Err(RequestError::Unknown(name.clone()));
        }
        let mut chosen = self.hostnames.clone();
        let mut rest: Vec<_> = members.iter().filter(|name| !chosen.contains(name)).cloned().collect();
        while chosen.len() < self.n {
            chosen.push(rest.swap_remove(rng.random_range(0..rest.len())));
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn add(body: &str) -> Result<Vec<String>, RequestError> {
        let members = ["Server-1".to_owned(), "Server-2".to_owned()];
        Change::parse(body.as_bytes())?.names_to_add(
            &members,
            3,
            "Server",
            &mut SmallRng::seed_from_u64(1),
            7,
        )
    }

    fn remove(body: &str) -> Result<Vec<String>, RequestError> {
        let members = ["Server-1".to_owned(), "Server-2".to_owned()];
        Change::parse(body.as_bytes())?.names_to_remove(&members, &mut SmallRng::seed_from_u64(1))
    }

    #[test]
    fn add_is_checked_in_the_contracts_order() {
        use RequestError::*;
        for body in ["", "[]", "3", "nonsense", "null", "\"n\""] {
            assert_eq!(add(body), Err(Payload), "{body}");
        }
        for n in ["0", "-1", "1.5", "1.0", "\"1\"", "true", "null", "99999999999999999999"] {
            assert_eq!(add(&format!(r#"{{"n":{n},"hostnames":[1]}}"#)), Err(Count), "{n}");
        }
        assert_eq!(add("{}"), Err(Count));
        assert_eq!(add(r#"{"n":1,"hostnames":"S5"}"#), Err(Hostnames));
        assert_eq!(add(r#"{"n":1,"hostnames":["a","a"]}"#), Err(MoreNamesThanAdded));
        assert_eq!(add(r#"{"n":9,"hostnames":["-","-"]}"#), Err(Duplicate("-".into())));
        assert_eq!(add(r#"{"n":9,"hostnames":["-"]}"#), Err(Invalid("-".into())));
        assert_eq!(add(r#"{"n":4,"hostnames":["Server-1"]}"#), Err(Full(3)));
        assert_eq!(add(r#"{"n":2,"hostnames":["Server-1"]}"#), Err(Taken("Server-1".into())));
    }

    #[test]
    fn names_given_come_first_and_random_ones_follow() {
        let names = add(r#"{"n":3,"hostnames":["S5","S4"]}"#).unwrap();
        assert_eq!(names[..2], ["S5", "S4"]);
        assert!(names[2].starts_with("Server-") && names[2].ends_with("-007"));
    }

    #[test]
    fn remove_is_checked_in_the_contracts_order() {
        use RequestError::*;
        assert_eq!(remove("{"), Err(Payload));
        assert_eq!(remove(r#"{"hostnames":["S5"]}"#), Err(Count));
        assert_eq!(remove(r#"{"n":3,"hostnames":["a","a","a","a"]}"#), Err(TooFew(2)));
        assert_eq!(remove(r#"{"n":1,"hostnames":["a","a"]}"#), Err(MoreNamesThanRemoved));
        assert_eq!(remove(r#"{"n":2,"hostnames":["a","a"]}"#), Err(Duplicate("a".into())));
        assert_eq!(remove(r#"{"n":2,"hostnames":["S9"]}"#), Err(Unknown("S9".into())));
        assert_eq!(remove(r#"{"n":2,"hostnames":["Server-2"]}"#).unwrap(), ["Server-2", "Server-1"]);
    }

    proptest::proptest! {
        #[test]
        fn no_body_panics_and_an_accepted_one_is_kept_to(body in proptest::collection::vec(0_u8..=255, 0..64), n in 1_usize..4) {
            let _ = Change::parse(&body);
            let names = add(&format!(r#"{{"n":{n}}}"#)).unwrap();
            proptest::prop_assert_eq!(names.len(), n);
        }
    }
}
