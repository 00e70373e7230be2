//! Shapes of public collections of logs (Loghub, <https://github.com/logpai/loghub>): BGL, HDFS, OpenStack, Spark, ZooKeeper,
//! Hadoop.

use super::cursor::Cursor;
use super::{Family, Record, Written};
use crate::level::Level;
use crate::time::{Civil, Time};

pub(super) const BGL: Family = Family {
    name: "bgl",
    about: "Blue Gene/L: - 1117838570 2005.06.03 node 2005-06-03-15.42.50.675872 node RAS KERNEL INFO message",
    several_lines: false,
    parse: bgl,
    looks_like: None,
};

pub(super) const HDFS: Family = Family {
    name: "hdfs",
    about: "HDFS of old: 081109 203615 148 INFO dfs.DataNode$PacketResponder: message",
    several_lines: true,
    parse: hdfs,
    looks_like: None,
};

pub(super) const OPENSTACK: Family = Family {
    name: "openstack",
    about: "OpenStack: [file] 2017-05-16 00:00:00.008 25746 INFO nova.api [req-…] message",
    several_lines: true,
    parse: openstack,
    looks_like: None,
};

pub(super) const SPARK: Family = Family {
    name: "spark",
    about: "Spark: 17/06/09 20:10:40 INFO executor.Backend: message",
    several_lines: true,
    parse: spark,
    looks_like: None,
};

pub(super) const ZOOKEEPER: Family = Family {
    name: "zookeeper",
    about: "ZooKeeper: 2015-07-29 17:41:44,747 - INFO  [thread:Class@774] - message",
    several_lines: true,
    parse: zookeeper,
    looks_like: None,
};

pub(super) const HADOOP: Family = Family {
    name: "hadoop",
    about: "Hadoop: 2015-10-18 18:01:47,978 INFO [main] org.apache.hadoop.Class: message",
    several_lines: true,
    parse: hadoop,
    looks_like: None,
};

fn bgl(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let _alert = cursor.word_and_spaces()?;
    let seconds = cursor.number()?;
    cursor.expect(b" ")?;
    let time = Time::of_seconds(i64::try_from(seconds).ok()?, 0)?;
    cursor.digits(4)?;
    cursor.expect(b".")?;
    cursor.word_and_spaces()?;
    let _node = cursor.word_and_spaces()?;
    let exact = exact(cursor.word_and_spaces()?);
    let _node = cursor.word_and_spaces()?;
    let _kind = cursor.word_and_spaces()?;
    let _component = cursor.word_and_spaces()?;
    let level = Level::of_word(cursor.word()?)?;
    let _none = cursor.spaces();
    Some(Record::with_rest(exact.or(Some(time)), Some(level), cursor))
}

/// `2005-06-03-15.42.50.675872`.
fn exact(word: &[u8]) -> Option<Time> {
    let mut cursor = Cursor::new(word);
    let year = cursor.digits(4)? as i32;
    cursor.expect(b"-")?;
    let month = cursor.digits(2)?;
    cursor.expect(b"-")?;
    let day = cursor.digits(2)?;
    cursor.expect(b"-")?;
    let hour = cursor.digits(2)?;
    cursor.expect(b".")?;
    let minute = cursor.digits(2)?;
    cursor.expect(b".")?;
    let second = cursor.digits(2)?;
    let micros = cursor.fraction()?;
    Time::of(Civil { year, month, day, hour, minute, second, micros })
}

fn hdfs(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let (year, month, day) = (cursor.digits(2)?, cursor.digits(2)?, cursor.digits(2)?);
    cursor.expect(b" ")?;
    let (hour, minute, second) = (cursor.digits(2)?, cursor.digits(2)?, cursor.digits(2)?);
    cursor.expect(b" ")?;
    let time = Time::of(Civil { year: 2000 + year as i32, month, day, hour, minute, second, micros: 0 });
    cursor.number()?;
    cursor.expect(b" ")?;
    level_and_class(cursor, time)
}

fn spark(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let year = 2000 + cursor.digits(2)? as i32;
    cursor.expect(b"/")?;
    let month = cursor.digits(2)?;
    cursor.expect(b"/")?;
    let day = cursor.digits(2)?;
    cursor.expect(b" ")?;
    let time = cursor.time_of_day(Civil { year, month, day, ..Civil::default() })?;
    cursor.expect(b" ")?;
    level_and_class(cursor, Some(time))
}

/// `INFO class: message`.
fn level_and_class(mut cursor: Cursor<'_>, time: Option<Time>) -> Option<Record> {
    let level = Level::of_word(cursor.word_and_spaces()?)?;
    let class = cursor.word()?.strip_suffix(b":")?;
    if class.is_empty() {
        return None;
    }
    let _none = cursor.spaces();
    Some(Record::with_rest(time, Some(level), cursor))
}

fn openstack(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    if !cursor.peek()?.is_ascii_digit() {
        // The collection names the file in front.
        cursor.word()?;
        cursor.expect(b" ")?;
    }
    let time = cursor.date_time(b"-")?;
    cursor.expect(b" ")?;
    cursor.number()?;
    cursor.expect(b" ")?;
    let level = Level::of_word(cursor.word_and_spaces()?)?;
    let module = cursor.word_and_spaces()?;
    // Others write a thread or three dashes here.
    if module.starts_with(b"[") || module.starts_with(b"---") {
        return None;
    }
    if cursor.peek() == Some(b'[')
        && (cursor.rest().starts_with(b"[-") || cursor.rest().starts_with(b"[req-"))
    {
        cursor.until(b']')?;
        let _none = cursor.spaces();
    }
    Some(Record::with_rest(Some(time), Some(level), cursor))
}

fn zookeeper(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let time = cursor.date_time(b"-")?;
    cursor.expect(b" - ")?;
    let level = Level::of_word(cursor.word_and_spaces()?)?;
    cursor.expect(b"[")?;
    // Threads have brackets and dashes of their own.
    let place = cursor.until_text(b"] - ")?;
    memchr::memchr(b'@', place)?;
    Some(Record::with_rest(Some(time), Some(level), cursor))
}

fn hadoop(line: &[u8], _: Written) -> Option<Record> {
    let mut cursor = Cursor::new(line);
    let time = cursor.date_time(b"-")?;
    cursor.expect(b" ")?;
    let level = Level::of_word(cursor.word_and_spaces()?)?;
    cursor.expect(b"[")?;
    // Threads have brackets of their own.
    cursor.until_text(b"] ")?;
    let class = cursor.word()?.strip_suffix(b":")?;
    if class.is_empty() {
        return None;
    }
    let _none = cursor.spaces();
    Some(Record::with_rest(Some(time), Some(level), cursor))
}
