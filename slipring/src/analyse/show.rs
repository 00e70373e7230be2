//! What a person sees while an analysis runs: the contract's lines, a bar on a terminal, and what goes wrong.

use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use slipring_analyser::output::{found, resuming};
use slipring_analyser::run::{Event, Tell};

/// From one interim result to the next.
const INTERIM: Duration = Duration::from_secs(1);

/// See the module. It writes to standard output what belongs to the contract's output, and all else to standard error.
#[derive(Clone)]
pub(super) struct Show(Arc<Shown>);

struct Shown {
    /// The result is a text on standard output, and its first lines belong to it.
    is_text: bool,
    is_verbose: bool,
    is_eventual: bool,
    bar: ProgressBar,
    interim: Mutex<Instant>,
}

impl Show {
    pub(super) fn new(is_text: bool, is_verbose: bool, is_eventual: bool) -> Self {
        let bar = if std::io::stderr().is_terminal() && !is_verbose {
            let style = ProgressStyle::with_template(
                "{wide_bar:.cyan/black} {bytes}/{total_bytes}  {bytes_per_sec}  eta {eta}",
            )
            .expect("the template is a constant and a test reads it");
            ProgressBar::new(0).with_style(style.progress_chars("━━─"))
        } else {
            ProgressBar::hidden()
        };
        let interim = Mutex::new(Instant::now());
        Self(Arc::new(Shown { is_text, is_verbose, is_eventual, bar, interim }))
    }

    pub(super) fn tell(&self) -> Tell {
        let shown = self.0.clone();
        Tell::new(move |event| shown.show(&event))
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.0.bar.finish_and_clear();
    }
}

impl Shown {
    fn show(&self, event: &Event) {
        match event {
            Event::Found { files, done } => {
                if self.is_text {
                    let text = done.map_or_else(|| found(*files), |done| resuming(*files, done));
                    self.bar.suspend(|| print!("{text}"));
                } else if self.is_verbose {
                    self.say(event);
                }
            }
            Event::Progress { bytes, of, .. } => {
                self.bar.set_length(*of);
                self.bar.set_position(*bytes);
                let mut last = self.interim.lock().unwrap_or_else(PoisonError::into_inner);
                if self.is_eventual && last.elapsed() >= INTERIM {
                    *last = Instant::now();
                    self.bar.suspend(|| eprintln!("{event}"));
                }
            }
            Event::Skipped { .. }
            | Event::Unsaved { .. }
            | Event::Waiting { .. }
            | Event::Back { .. }
            | Event::StandingBy { .. }
            | Event::TookOver
            | Event::Turn { .. }
            | Event::TimedOut { .. } => {
                if self.is_verbose && self.is_text {
                    self.say(event);
                } else {
                    self.bar.suspend(|| eprintln!("{event}"));
                }
            }
            Event::Assigned { .. }
            | Event::Processing { .. }
            | Event::Reassigned { .. }
            | Event::Doubled { .. }
            | Event::Late { .. }
            | Event::Saved { .. }
            | Event::Resumed { .. } => {
                if self.is_verbose {
                    self.say(event);
                }
            }
        }
    }

    fn say(&self, event: &Event) {
        self.bar.suspend(|| if self.is_text { println!("{event}") } else { eprintln!("{event}") });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_template_is_well_formed() {
        super::Show::new(true, false, false).finish();
    }
}
