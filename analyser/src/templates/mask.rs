//! What varies in a message becomes a placeholder; the rest is its template.
//!
//! A message is taken apart at blanks, quotes, brackets, commas and equals signs. Placeholders: `<num>`, `<hex>`, `<uuid>`,
//! `<ip>`, `<addr>` (IPv6, MAC), `<time>`, `<duration>`, `<size>`, `<path>`, `<url>`, `<id>` (letters and digits in turns),
//! `"<str>"` (what is in quotes) and `<value>` (what is behind an equals sign). A number inside a word leaves the word:
//! `blk_-1608999687919862906` is `blk_<num>`. Rules look at one piece alone, so equal messages have equal templates
//! wherever they are.

/// Bytes of a message that are looked at; a longer one's template ends with an ellipsis.
const LONGEST: usize = 1024;

/// A byte of a word.
const WORD: u8 = 1;
const DIGIT: u8 = 2;
const SLASH: u8 = 4;
const LETTER: u8 = 8;

const KINDS: [u8; 256] = {
    let mut kinds = [WORD; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_digit() {
            kinds[byte] |= DIGIT;
        } else if b.is_ascii_alphabetic() {
            kinds[byte] |= LETTER;
        } else if b == b'/' || b == b'\\' {
            kinds[byte] |= SLASH;
        } else if b.is_ascii_control() || b == b' ' {
            kinds[byte] = 0;
        }
        byte += 1;
    }
    let delimiters = b"\"'()[]{}<>,;=|!?`";
    let mut at = 0;
    while at < delimiters.len() {
        kinds[delimiters[at] as usize] = 0;
        at += 1;
    }
    kinds
};

fn kind(byte: u8) -> u8 {
    KINDS[usize::from(byte)]
}

/// Writes the template of a message into `out`, which is emptied first.
pub fn mask(message: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let (message, cut) = match message.get(..LONGEST) {
        Some(beginning) if message.len() > LONGEST => (beginning, true),
        _ => (message, false),
    };
    let mut at = 0;
    while let Some(&byte) = message.get(at) {
        if kind(byte) & WORD != 0 {
            let begin = at;
            let mut kinds = 0;
            while let Some(&byte) = message.get(at)
                && kind(byte) & WORD != 0
            {
                kinds |= kind(byte);
                at += 1;
            }
            word(&message[begin..at], kinds, out);
            continue;
        }
        let before = at.checked_sub(1).and_then(|before| message.get(before));
        let after_word = before.is_some_and(|byte| kind(*byte) & WORD != 0);
        match byte {
            b'"' => at = quoted(message, at, out),
            // An apostrophe is no quote.
            b'\'' if !after_word => at = quoted(message, at, out),
            b'=' if after_word => {
                out.push(b'=');
                at += 1;
                at = value(message, at, out);
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    if cut {
        out.extend_from_slice("…".as_bytes());
    }
}

/// What is in quotes, if they are closed; where it goes on.
fn quoted(message: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let quote = message[at];
    out.push(quote);
    let Some(length) = memchr::memchr(quote, &message[at + 1..]) else { return at + 1 };
    let end = at + 1 + length;
    let in_word = message.get(end + 1).is_some_and(|byte| kind(*byte) & (LETTER | DIGIT) != 0);
    if length == 0 || (quote == b'\'' && in_word) {
        return at + 1;
    }
    out.extend_from_slice(b"<str>");
    out.push(quote);
    end + 1
}

/// What is behind an equals sign, up to the next delimiter; where it goes on.
fn value(message: &[u8], at: usize, out: &mut Vec<u8>) -> usize {
    let length = message[at..].iter().take_while(|byte| kind(**byte) & WORD != 0).count();
    if length == 0 {
        return at;
    }
    let text = &message[at..at + length];
    let end = text.iter().rposition(|byte| !b".:".contains(byte)).map_or(0, |last| last + 1);
    if end > 0 {
        out.extend_from_slice(b"<value>");
    }
    out.extend_from_slice(&text[end..]);
    at + length
}

fn word(word: &[u8], kinds: u8, out: &mut Vec<u8>) {
    if kinds & (DIGIT | SLASH) == 0 {
        out.extend_from_slice(word);
        return;
    }
    // Punctuation at the end belongs to the sentence.
    let end = word.iter().rposition(|byte| !b".:".contains(byte)).map_or(0, |last| last + 1);
    let (word, punctuation) = word.split_at(end);
    match placeholder(word, kinds) {
        Some(placeholder) => out.extend_from_slice(placeholder),
        None if kinds & DIGIT != 0 => numbers_out_of(word, out),
        None => out.extend_from_slice(word),
    }
    out.extend_from_slice(punctuation);
}

/// What the whole word stands for, if it is something.
fn placeholder(word: &[u8], kinds: u8) -> Option<&'static [u8]> {
    if kinds & SLASH != 0 && memchr::memmem::find(word, b"://").is_some() {
        return Some(b"<url>");
    }
    if kinds & DIGIT != 0 {
        if let Some(number) = number(word) {
            return Some(number);
        }
        if is_uuid(word) {
            return Some(b"<uuid>");
        }
        // Java writes "host/address", with or without the host.
        let slash = word.strip_prefix(b"/");
        if is_ip(slash.unwrap_or(word)) {
            return Some(if slash.is_some() { b"/<ip>" } else { b"<ip>" });
        }
        if is_time(word) {
            return Some(b"<time>");
        }
        if is_address(slash.unwrap_or(word)) {
            return Some(if slash.is_some() { b"/<addr>" } else { b"<addr>" });
        }
        if is_hex(word) {
            return Some(b"<hex>");
        }
    }
    if kinds & SLASH != 0 {
        let rooted = word.len() > 1
            && (matches!(word[0], b'/' | b'\\' | b'~')
                || word.starts_with(b"./")
                || word.starts_with(b"../"));
        let drive = word.len() > 2 && word[0].is_ascii_alphabetic() && matches!(&word[1..3], b":\\" | b":/");
        // "and/or" is none.
        let with_digits = kinds & DIGIT != 0 && kinds & LETTER != 0;
        return (rooted || drive || with_digits).then_some(b"<path>");
    }
    is_id(word).then_some(b"<id>")
}

/// A number with what may be around it: a sign, a fraction, a unit.
fn number(word: &[u8]) -> Option<&'static [u8]> {
    let digits =
        word.strip_prefix(b"-").or(word.strip_prefix(b"+")).or(word.strip_prefix(b"#")).unwrap_or(word);
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    if length == 0
        || !digits[0].is_ascii_digit()
        || digits[..length].iter().filter(|byte| **byte == b'.').count() > 1
    {
        return None;
    }
    match &digits[length..] {
        b"" | b"%" => Some(b"<num>"),
        b"ns" | b"us" | b"\xc2\xb5s" | b"ms" | b"s" | b"sec" | b"secs" | b"m" | b"min" | b"h" | b"d"
        | b"ms/op" => Some(b"<duration>"),
        b"B" | b"K" | b"M" | b"G" | b"T" | b"KB" | b"kB" | b"MB" | b"GB" | b"TB" | b"KiB" | b"MiB"
        | b"GiB" | b"TiB" | b"k" | b"kb" | b"mb" | b"gb" | b"b" => Some(b"<size>"),
        [b'e' | b'E', exponent @ ..] => {
            let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
            (!exponent.is_empty() && exponent.iter().all(u8::is_ascii_digit)).then_some(b"<num>")
        }
        _ => None,
    }
}

fn is_uuid(word: &[u8]) -> bool {
    word.len() == 36
        && word.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Four numbers with dots, and perhaps a port or the length of a network.
fn is_ip(word: &[u8]) -> bool {
    let end = word.iter().position(|byte| matches!(byte, b':' | b'/')).unwrap_or(word.len());
    let (address, port) = word.split_at(end);
    let port_is_number =
        port.get(1..).is_none_or(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit));
    let mut parts = 0;
    let all = address.split(|byte| *byte == b'.').all(|part| {
        parts += 1;
        (1..=3).contains(&part.len()) && part.iter().all(u8::is_ascii_digit)
    });
    all && parts == 4 && port_is_number
}

/// A date, a time of day, or both.
fn is_time(word: &[u8]) -> bool {
    let (mut colons, mut dashes) = (0, 0);
    for byte in word {
        match byte {
            b'0'..=b'9' | b'.' | b'T' | b'Z' | b'+' => {}
            b':' => colons += 1,
            b'-' | b'/' => dashes += 1,
            _ => return false,
        }
    }
    let begins = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let date = dashes >= 2 && matches!(begins, 2 | 4) && word.len() >= 8;
    date || ((1..=3).contains(&colons) && begins == 2 && matches!(word.len(), 5 | 8..=18) && word[2] == b':')
}

/// Hexadecimal groups with colons: IPv6, MAC.
fn is_address(word: &[u8]) -> bool {
    let colons = word.iter().filter(|byte| **byte == b':').count();
    colons >= 2 && word.iter().all(|byte| byte.is_ascii_hexdigit() || b":.%".contains(byte))
}

fn is_hex(word: &[u8]) -> bool {
    let prefixed = word.strip_prefix(b"0x").or(word.strip_prefix(b"0X"));
    let digits = prefixed.unwrap_or(word);
    let long_enough = digits.len() >= if prefixed.is_some() { 1 } else { 8 };
    long_enough && digits.iter().all(u8::is_ascii_hexdigit)
}

/// Letters and digits in turns: a random identifier.
fn is_id(word: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let turns = word
        .windows(2)
        .filter(|two| two.iter().all(u8::is_ascii_alphanumeric) && digit(&two[0]) != digit(&two[1]));
    word.len() >= 8 && turns.count() >= 4
}

/// A word whose numbers are replaced, a sign or fraction going with them.
fn numbers_out_of(word: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = word.get(at) {
        if !byte.is_ascii_digit() {
            out.push(byte);
            at += 1;
            continue;
        }
        // "blk_-16" and "blk_16" are of one kind; "node-7" is a name.
        if out.ends_with(b"_-") {
            out.pop();
        }
        out.extend_from_slice(b"<num>");
        while let Some(&byte) = word.get(at) {
            let fraction = byte == b'.' && word.get(at + 1).is_some_and(u8::is_ascii_digit);
            if !byte.is_ascii_digit() && !fraction {
                break;
            }
            at += 1;
        }
    }
}
