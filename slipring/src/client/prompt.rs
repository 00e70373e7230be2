//! The prompt of the original's client: `rep`, `add N name…`, `del N name…`, or a path.

use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;

use super::call::{Balancer, Call};
use crate::report::complain;

const HELP: &str = "rep | add N [name…] | del N [name…] | a path like /home | quit";

/// What one line asks for.
enum Line {
    Nothing,
    Quit,
    Help,
    Call(Call),
}

pub(super) async fn run(balancer: &Balancer) -> ExitCode {
    let input = std::io::stdin();
    let interactive = input.is_terminal();
    if interactive {
        println!("{HELP}");
    }
    let mut lines = input.lock().lines();
    loop {
        if interactive {
            print!("> ");
            if std::io::stdout().flush().is_err() {
                return ExitCode::FAILURE;
            }
        }
        let line = match lines.next() {
            Some(Ok(line)) => line,
            Some(Err(error)) => {
                complain(&error);
                return ExitCode::FAILURE;
            }
            None => return ExitCode::SUCCESS,
        };
        match parse(&line) {
            Line::Nothing => {}
            Line::Quit => return ExitCode::SUCCESS,
            Line::Help => println!("{HELP}"),
            Line::Call(call) => match balancer.send(&call).await {
                Ok(answer) => println!("{}\n{}", answer.body, answer.status.as_u16()),
                Err(error) => complain(&error),
            },
        }
    }
}

fn parse(line: &str) -> Line {
    let mut words = line.split_whitespace();
    let first = words.next();
    let rest: Vec<String> = words.map(str::to_owned).collect();
    let change = |call: fn(u64, &[String]) -> Call| match rest.first().and_then(|n| n.parse().ok()) {
        Some(n) => Line::Call(call(n, &rest[1..])),
        None => Line::Help,
    };
    match first {
        None => Line::Nothing,
        Some("quit" | "exit") => Line::Quit,
        Some("help" | "?") => Line::Help,
        Some("rep") => Line::Call(Call::rep()),
        Some("add") => change(Call::add),
        Some("del" | "rm") => change(Call::remove),
        Some(path) => Line::Call(Call::get(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_contracts_prompt() {
        assert!(matches!(parse("  "), Line::Nothing));
        assert!(matches!(parse("quit"), Line::Quit));
        for help in ["help", "add", "add x", "del -1"] {
            assert!(matches!(parse(help), Line::Help), "{help}");
        }
        for call in ["rep", "add 2 S4 S5", "del 1", "/home", "home", "heartbeat"] {
            assert!(matches!(parse(call), Line::Call(_)), "{call}");
        }
    }
}
