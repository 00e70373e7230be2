//! Where progress is shown: the page on a terminal, a line a second elsewhere.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::page;
use super::state::Bench;
use crate::text::grouped;

/// From one line to the next.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// How long the keyboard is listened to before it is seen whether anybody still wants to know.
const LISTEN: Duration = Duration::from_millis(100);

/// See the module. Dropped, the terminal is as before.
pub(super) enum Screen {
    Page { terminal: Box<DefaultTerminal>, keys: mpsc::Receiver<()> },
    Lines { next: Duration },
}

impl Screen {
    pub(super) fn new(plain: bool) -> io::Result<Self> {
        if plain || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Ok(Self::Lines { next: LINE_EVERY });
        }
        let terminal = Box::new(ratatui::try_init()?);
        let (tell, keys) = mpsc::channel(1);
        std::thread::spawn(move || listen(&tell));
        Ok(Self::Page { terminal, keys })
    }

    pub(super) fn show(&mut self, bench: &Bench, elapsed: Duration) -> io::Result<()> {
        match self {
            Self::Page { terminal, .. } => {
                terminal.draw(|frame| page::draw(frame, bench, elapsed))?;
            }
            Self::Lines { next } if elapsed >= *next => {
                *next = elapsed + LINE_EVERY;
                println!("{}", line(bench, elapsed));
            }
            Self::Lines { .. } => {}
        }
        Ok(())
    }

    /// Resolves when somebody at the keyboard has had enough.
    pub(super) async fn ended(&mut self) {
        if let Self::Page { keys, .. } = self
            && keys.recv().await.is_some()
        {
            return;
        }
        // Nobody is there, or nobody can be heard any more.
        std::future::pending::<()>().await;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if matches!(self, Self::Page { .. }) {
            ratatui::restore();
        }
    }
}

/// Tells of the first `q`, Escape or Ctrl-C, which is a key while there is a page.
fn listen(tell: &mpsc::Sender<()>) {
    while !tell.is_closed() {
        let pressed = match event::poll(LISTEN) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let ends = match pressed {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => match key.code {
                KeyCode::Char('q') | KeyCode::Esc => true,
                KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
                _ => false,
            },
            Ok(_) => false,
            // A terminal that is gone: signals end the rest.
            Err(_) => return,
        };
        if ends {
            // If nobody wants to know, it has ended already.
            return tell.blocking_send(()).unwrap_or_default();
        }
    }
}

/// `212 of 400, 52.1/s, p50 120.0 ms, p95 240.0 ms, p99 310.0 ms, 4 failed`.
fn line(bench: &Bench, elapsed: Duration) -> String {
    let figures = bench.figures(elapsed);
    let (done, all) = (grouped(figures.done()), grouped(figures.requests));
    let mut line = format!("{done} of {all}, {:.1}/s", figures.requests_per_second);
    if let Some(ms) = figures.latency_ms {
        line.push_str(&format!(", p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms", ms.p50, ms.p95, ms.p99));
    }
    if figures.failed > 0 {
        line.push_str(&format!(", {} failed", grouped(figures.failed)));
    }
    line
}
