//! The drawings: nothing clipped, nothing on top of something else, whatever the data.

use resvg::usvg;

use super::axis::Axis;
use super::*;
use crate::chart::theme::FONT_FAMILY;

fn bars(panels: usize, bars: usize) -> Bars {
    let bar = |i: usize| Bar {
        label: (i + 1).to_string(),
        value: 1000.0 + 1234.0 * i as f64,
        expected: (i != 1).then_some(1500.0),
    };
    let panel = |i: usize| BarPanel {
        title: format!("placement {i}"),
        note: "σ 1,234, uniform 47; χ² 12345.6, p < 0.001".to_owned(),
        colour: replica_colour(i),
        bars: (0..bars).map(bar).collect(),
    };
    Bars {
        title: "Bars & <more>".to_owned(),
        subtitle: vec!["measured so".to_owned(), "and so".to_owned()],
        y_name: "requests answered".to_owned(),
        bar_name: "replica".to_owned(),
        expected_name: "expected".to_owned(),
        even: Some((2000.0, "even".to_owned())),
        panels: (0..panels).map(panel).collect(),
    }
}

fn lines(scale: Scale, side_by_side: bool, names: usize, heights: impl Fn(usize, u32) -> f64) -> Lines {
    let point = |i: usize, x: u32| {
        let y = heights(i, x);
        Point { x, y, range: side_by_side.then_some((y * 0.5, y * 1.5)), expected: Some(y * 1.1) }
    };
    let series = |i: usize| Series {
        name: format!("placement-{i}"),
        colour: placement_colour("", i),
        points: (2..=6).map(|x| point(i, x)).collect(),
    };
    Lines {
        title: "Lines".to_owned(),
        subtitle: vec!["measured so".to_owned()],
        x_name: "N, replicas".to_owned(),
        y_name: "standard deviation".to_owned(),
        scale,
        side_by_side,
        expected_name: "expected".to_owned(),
        theory: Some(("theory".to_owned(), (2..=6).map(|x| (x, 40.0)).collect())),
        band: Some(Band { name: "chance".to_owned(), edges: (2..=6).map(|x| (x, 20.0, 60.0)).collect() }),
        series: (0..names).map(series).collect(),
    }
}

fn timeline(errors: u64, marks: &[f64]) -> Timeline {
    let lane = |i: usize| Lane {
        name: format!("Server-{}", i + 1),
        colour: replica_colour(i),
        counts: (0..120).map(|bucket| 10 + (bucket + i as u64) % 7).collect(),
    };
    let dot = |i: u32| Dot {
        at: 3.9 + f64::from(i) * 0.01,
        latency_ms: 0.4 + f64::from(i % 9),
        lane: (i != 30).then_some((i % 3) as usize),
    };
    let mark = |(i, &at): (usize, &f64)| Mark { at, label: format!("something happened {i}"), alarm: i == 0 };
    Timeline {
        title: "Timeline".to_owned(),
        subtitle: vec!["measured so".to_owned(), "and so".to_owned()],
        bucket: 0.1,
        lanes: (0..3).map(lane).collect(),
        errors: (0..120).map(|bucket| if bucket == 40 { errors } else { 0 }).collect(),
        marks: marks.iter().enumerate().map(mark).collect(),
        zoom: Zoom { from: 3.9, to: 4.5, dots: (0..60).map(dot).collect() },
    }
}

fn stacked(bars: usize, layers: usize, is_apart: bool, most: u64) -> Stacked {
    let layer = |i: usize| Layer {
        name: ["FATAL", "ERROR", "WARN", "NOTICE", "INFO", "DEBUG", "TRACE", "without a level"][i].to_owned(),
        colour: level_colour(["FATAL", "ERROR", "WARN", "NOTICE", "INFO", "DEBUG", "TRACE", ""][i]),
        counts: (0..bars).map(|bar| (bar as u64 * 7 + i as u64) % most).collect(),
    };
    let at = |bar: usize| bar as f64 + if is_apart { 0.5 } else { 0.0 };
    let label = |bar: usize| if is_apart { "NOTICE".to_owned() } else { format!("11-{bar:02} 23:59:00") };
    let step = bars.div_ceil(8);
    Stacked {
        title: "Records & <levels>".to_owned(),
        subtitle: vec!["counted so".to_owned()],
        x_name: "time".to_owned(),
        y_name: "records a minute".to_owned(),
        bars,
        is_apart,
        ticks: (0..bars).step_by(step).map(|bar| (at(bar), label(bar))).collect(),
        layers: (0..layers).map(layer).collect(),
    }
}

/// Every text of a drawing with the box that it fills, in pixels.
fn texts(picture: &Picture) -> (usvg::Tree, Vec<(String, usvg::Rect)>) {
    fn collect(group: &usvg::Group, found: &mut Vec<(String, usvg::Rect)>) {
        for node in group.children() {
            match node {
                usvg::Node::Group(inner) => collect(inner, found),
                usvg::Node::Text(text) => {
                    let words = text.chunks().iter().map(|chunk| chunk.text().trim()).collect();
                    found.push((words, text.abs_bounding_box()));
                }
                usvg::Node::Path(_) | usvg::Node::Image(_) => {}
            }
        }
    }
    let tree = usvg::Tree::from_str(picture.svg(), &text::options()).unwrap();
    let mut found = Vec::new();
    collect(tree.root(), &mut found);
    (tree, found)
}

#[track_caller]
fn check(what: &str, picture: &Picture) {
    assert!(!picture.svg().contains("NaN") && !picture.svg().contains("inf"), "{what}: not a number in it");
    assert!(picture.svg().contains(&format!("font-family=\"{FONT_FAMILY}\"")), "{what}: no font named");
    let (tree, texts) = texts(picture);
    let page = tree.size();
    for (i, (words, a)) in texts.iter().enumerate() {
        let inside = a.left() >= 0.0
            && a.top() >= 0.0
            // A browser without the font sets the text up to a tenth wider.
            && a.right() + a.width() * 0.1 <= page.width()
            && a.bottom() <= page.height();
        assert!(inside, "{what}: {words:?} is clipped: {a:?} on {page:?}");
        for (others, b) in &texts[i + 1..] {
            let apart = a.right() <= b.left()
                || b.right() <= a.left()
                || a.bottom() <= b.top()
                || b.bottom() <= a.top();
            assert!(apart, "{what}: {words:?} and {others:?} overlap: {a:?} {b:?}");
        }
    }
}

#[test]
fn no_text_is_clipped_or_covered() {
    for panels in 1..=7 {
        for count in [1, 2, 3, 6, 7, 8, 11, 12, 25, 50] {
            check(&format!("{panels} panels of {count}"), &bars(panels, count).draw().unwrap());
        }
    }
    for (scale, side_by_side) in
        [(Scale::Linear, true), (Scale::Linear, false), (Scale::Log, true), (Scale::Log, false)]
    {
        for names in 1..=6 {
            let what = format!("{names} lines, {scale:?}, side by side {side_by_side}");
            let apart = lines(scale, side_by_side, names, |i, x| 10f64.powi(i as i32 % 4) * f64::from(x));
            check(&what, &apart.draw().unwrap());
            let together = lines(scale, side_by_side, names, |_, x| 100.0 / f64::from(x));
            check(&what, &together.draw().unwrap());
        }
    }
    for layers in 1..=8 {
        for (bars, most) in [(1, 2), (2, 1000), (8, 30), (60, 1_000_000_000), (400, 9)] {
            check(&format!("{layers} layers of {bars}"), &stacked(bars, layers, false, most).draw().unwrap());
        }
        check(&format!("{layers} levels"), &stacked(layers, layers, true, 12_345_678).draw().unwrap());
    }
    for marks in [&[][..], &[4.0], &[4.0, 4.2], &[3.95, 4.45]] {
        check(&format!("marks {marks:?}"), &timeline(3, marks).draw().unwrap());
    }
}

#[test]
fn a_long_subtitle_is_broken_and_a_long_key_takes_rows() {
    let mut chart = bars(1, 2);
    chart.subtitle = vec!["a subtitle that does not fit on one line of a narrow page ".repeat(3)];
    chart.expected_name = "an expectation with quite a long explanation of what it is".to_owned();
    check("narrow", &chart.draw().unwrap());
    let mut chart = timeline(0, &[4.0, 4.2]);
    chart.subtitle = vec!["a subtitle that does not fit on one line of any page ".repeat(5)];
    check("wide", &chart.draw().unwrap());
}

#[test]
fn nothing_measured_is_still_a_picture() {
    check("no panels", &bars(0, 0).draw().unwrap());
    check("no bars", &bars(1, 0).draw().unwrap());
    check("no lines", &lines(Scale::Log, false, 0, |_, _| 0.0).draw().unwrap());
    check("zeros on a log scale", &lines(Scale::Log, false, 2, |_, _| 0.0).draw().unwrap());
    check("zeros on a linear scale", &lines(Scale::Linear, true, 2, |_, _| 0.0).draw().unwrap());
    let mut empty = timeline(0, &[]);
    empty.lanes.clear();
    empty.errors.clear();
    empty.zoom.dots.clear();
    check("no requests", &empty.draw().unwrap());
}

#[test]
fn what_is_written_is_escaped() {
    let picture = bars(1, 2).draw().unwrap();
    let (_, texts) = texts(&picture);
    assert!(texts.iter().any(|(words, _)| words == "Bars & <more>"), "{texts:?}");
    assert!(picture.svg().contains("<title>Bars &amp; &lt;more&gt;</title>"));
}

#[test]
fn the_same_data_is_the_same_bytes_and_the_png_is_twice_as_large() {
    let picture = timeline(2, &[4.0, 4.2]).draw().unwrap();
    assert_eq!(picture.svg(), timeline(2, &[4.0, 4.2]).draw().unwrap().svg());
    let png = picture.png().unwrap();
    assert_eq!(png, picture.png().unwrap());
    // IHDR: eight bytes of signature, eight of chunk header, then width and height.
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!(number(16), 1920);
    assert!(picture.svg().starts_with(&format!("<svg width=\"960\" height=\"{}\"", number(20) / 2)));
}

#[test]
fn the_smallest_bar_chart() {
    insta::assert_snapshot!(bars(1, 1).draw().unwrap().svg());
}

#[test]
fn ticks_are_round_numbers() {
    let labels = |axis: &Axis| axis.ticks.iter().map(|tick| tick.label.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(labels(&Axis::from_zero(8_400.0, 4)), "0 5,000 10,000");
    assert_eq!(labels(&Axis::from_zero(1.0, 4)), "0.0 0.5 1.0");
    assert_eq!(labels(&Axis::exactly(3.87, 4.45, 6)), "3.9 4.0 4.1 4.2 4.3 4.4");
    assert_eq!(labels(&Axis::log(3.0, 900.0)), "2 5 10 20 50 100 200 500 1,000");
    assert_eq!(labels(&Axis::log(0.05, 4000.0)), "0.1 1 10 100 1,000");
    assert_eq!(labels(&Axis::log(0.05, 0.6)), "0.05 0.1 0.2 0.5 1");
}

#[test]
fn names_that_would_overlap_move_apart() {
    assert_eq!(spread(&[10.0, 100.0], 20.0, 0.0, 200.0), [10.0, 100.0]);
    assert_eq!(spread(&[100.0, 100.0], 20.0, 0.0, 200.0), [90.0, 110.0]);
    assert_eq!(spread(&[5.0, 0.0, 2.0], 20.0, 0.0, 200.0), [40.0, 0.0, 20.0]);
    assert_eq!(spread(&[199.0, 198.0], 20.0, 0.0, 200.0), [200.0, 180.0]);
    assert_eq!(spread(&[], 20.0, 0.0, 200.0), [0.0; 0]);
}

#[test]
fn numbers_are_grouped() {
    let written: Vec<String> = [0.0, 999.0, 1000.0, 1_234_567.4, -1500.0].map(grouped).to_vec();
    assert_eq!(written, ["0", "999", "1,000", "1,234,567", "−1,500"]);
}

#[test]
fn the_band_of_chance_is_on_the_paper_even_where_no_point_is() {
    let mut chart = lines(Scale::Log, false, 1, |_, _| 100.0);
    chart.band = Some(Band { name: "chance".to_owned(), edges: (2..=6).map(|x| (x, 1.6, 600.0)).collect() });
    let (_, texts) = texts(&chart.draw().unwrap());
    let ticks: Vec<&str> = texts.iter().map(|(words, _)| words.as_str()).collect();
    assert!(ticks.contains(&"1") && ticks.contains(&"1,000"), "{ticks:?}");
}
