//! The page: pure, a state onto cells.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Table};

use super::state::{Bench, Figures, Seen};
use crate::text::grouped;

const HEADS: [&str; 9] = ["id", "role", "team", "state", "active", "queue", "average", "files", ""];

pub(super) fn draw(frame: &mut Frame<'_>, bench: &Bench, elapsed: Duration) {
    let figures = bench.figures(elapsed);
    let processes = u16::try_from(bench.processes.len()).unwrap_or(u16::MAX).saturating_add(3);
    let rows = [Constraint::Length(7), Constraint::Length(processes), Constraint::Min(3)];
    let [load, table, log] = Layout::vertical(rows).areas(frame.area());
    draw_load(frame, load, bench, &figures);
    let block = Block::bordered().title(" processes ");
    let widths = [8, 11, 8, 8, 7, 6, 10, 6].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    let head = Row::new(HEADS).style(Style::new().add_modifier(Modifier::DIM));
    let table_rows = bench.processes.iter().map(process);
    frame.render_widget(Table::new(table_rows, widths).header(head).block(block), table);
    draw_log(frame, log, &bench.processes);
}

fn draw_load(frame: &mut Frame<'_>, area: Rect, bench: &Bench, figures: &Figures) {
    let plan = &bench.plan;
    let title = format!(" {} · {} ", plan.target, plan.strategies.words().join(" "));
    let block = Block::bordered().title(title).title_bottom(Line::from(" q ends it ").right_aligned());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let [bar, text] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(inside);
    let share = figures.done() as f64 / figures.requests.max(1) as f64;
    let label = format!("{} of {}", grouped(figures.done()), grouped(figures.requests));
    let bar_colours = Style::new().fg(Color::Cyan).bg(Color::DarkGray);
    frame.render_widget(Gauge::default().gauge_style(bar_colours).ratio(share.min(1.0)).label(label), bar);
    let latency = figures.latency_ms.map_or_else(
        || "latency      nothing is answered yet".to_owned(),
        |ms| {
            format!(
                "latency      p50 {:.1} ms   p95 {:.1} ms   p99 {:.1} ms   average {:.1} ms",
                ms.p50, ms.p95, ms.p99, ms.average
            )
        },
    );
    let failures: Vec<_> =
        figures.failures.iter().map(|(status, n)| format!("{status} {}", grouped(*n))).collect();
    let failed = match failures.is_empty() {
        true => Line::from("failed       none"),
        false => Line::styled(format!("failed       {}", failures.join(", ")), Color::Red),
    };
    let lines = vec![
        Line::from(format!("load         {} at a time for {:.1} s", plan.concurrency, figures.seconds)),
        Line::from(format!(
            "throughput   {:.1} requests/s   {} records/s",
            figures.requests_per_second,
            grouped(figures.records_per_second.round() as u64)
        )),
        Line::from(latency),
        failed,
    ];
    frame.render_widget(Paragraph::new(lines), text);
}

fn process(seen: &Seen) -> Row<'_> {
    let state = match seen.state() {
        "up" => Span::styled("up", Color::Green),
        between @ ("loading" | "partly") => Span::styled(between, Color::Yellow),
        down => Span::styled(down, Color::Red),
    };
    let number = |of: fn(&slipring_overlay::wire::MetricsResponse) -> i32| {
        let known = seen.metrics.as_ref().filter(|_| seen.why.is_none());
        known.map_or_else(|| "-".to_owned(), |metrics| grouped(of(metrics).max(0).unsigned_abs().into()))
    };
    let average = seen.metrics.as_ref().filter(|_| seen.why.is_none());
    let average = average.map_or_else(|| "-".into(), |m| format!("{:.1} ms", m.avg_processing_time_ms));
    Row::new(vec![
        Span::from(seen.id.as_str()),
        Span::from(seen.role.as_str()),
        Span::from(seen.team.as_str()),
        state,
        Span::from(number(|metrics| metrics.active_requests)),
        Span::from(number(|metrics| metrics.queue_size)),
        Span::from(average),
        Span::from(number(|metrics| metrics.data_files_loaded)),
        Span::from(seen.why.as_deref().unwrap_or_default()),
    ])
}

/// The last lines of each process that has any, as many as there is room for.
fn draw_log(frame: &mut Frame<'_>, area: Rect, processes: &[Seen]) {
    let block = Block::bordered().title(" log ");
    let room = usize::from(block.inner(area).height);
    let logs = processes.iter().filter_map(|seen| Some((seen, &seen.metrics.as_ref()?.recent_logs)));
    let logs: Vec<_> = logs.filter(|(_, lines)| !lines.is_empty()).collect();
    let each = (room / logs.len().max(1)).max(1);
    let lines = logs.iter().flat_map(|(seen, lines)| {
        let last = lines.iter().skip(lines.len().saturating_sub(each));
        last.map(|line| Line::from(format!("{} {line}", seen.id)))
    });
    frame.render_widget(Paragraph::new(lines.take(room).collect::<Vec<_>>()).block(block), area);
}
