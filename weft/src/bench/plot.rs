//! Pictures of results, as SVG.

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::form::{Outcome, number};
use super::trace::Report;

const SIZE: (u32, u32) = (960, 560);
const FONT: &str = "Helvetica, Arial, sans-serif";
const INK: RGBColor = RGBColor(0x22, 0x2b, 0x36);
const FAINT: RGBColor = RGBColor(0xe3, 0xe7, 0xec);
/// Told apart by people who see colours differently, and in grey.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0x0b, 0x6e, 0x99), RGBColor(0xd9, 0x5f, 0x02), RGBColor(0x4c, 0x9a, 0x52), RGBColor(0x7a, 0x51, 0x95)];

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Time to first token with and without weft, named by the simulated prefill rate that it rests on.
pub(crate) fn ttft(curves: &[(&str, &Report)], prefill_tokens_per_s: Option<u32>, path: &Path) -> anyhow::Result<()> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_ttft(curves, prefill_tokens_per_s, &canvas).map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    write(path, &svg)
}

/// Bars of an outcome against their limits.
pub(crate) fn bars(outcome: &Outcome, path: &Path) -> anyhow::Result<()> {
    let mut svg = String::new();
    {
        let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_bars(outcome, &canvas).map_err(|error| anyhow!("cannot draw: {error}"))?;
    }
    write(path, &svg)
}

fn write(path: &Path, svg: &str) -> anyhow::Result<()> {
    std::fs::write(path, svg).map_err(|error| anyhow!("cannot write {}: {error}", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_ttft(curves: &[(&str, &Report)], prefill_tokens_per_s: Option<u32>, canvas: &Canvas<'_>) -> Drawn {
    let samples = || curves.iter().flat_map(|(_, report)| &report.ttft_samples_s).copied();
    let fastest = samples().fold(f64::INFINITY, f64::min);
    let slowest = samples().fold(0.0, f64::max);
    if !fastest.is_finite() {
        return Err("no request was answered".into());
    }
    let (from, to) = (10_f64.powf(fastest.max(1e-4).log10().floor()), slowest.max(1e-3) * 1.15);
    canvas.fill(&WHITE)?;
    let canvas = heading(canvas, "Time to first token", &subtitle(curves, prefill_tokens_per_s))?;
    let mut chart = ChartBuilder::on(&canvas)
        .margin_left(16)
        .margin_right(32)
        .margin_bottom(12)
        .x_label_area_size(52)
        .y_label_area_size(64)
        .build_cartesian_2d((from..to).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(INK.mix(0.5))
        .label_style((FONT, 15).into_font().color(&INK))
        .axis_desc_style((FONT, 16).into_font().color(&INK))
        .x_desc("time to first token (logarithmic)")
        .y_desc("requests answered within that time")
        .x_label_formatter(&|seconds| time(*seconds))
        .y_label_formatter(&|share| format!("{share:.0} %"))
        .y_labels(6)
        .draw()?;
    for ((name, report), colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let all = &report.ttft_samples_s;
        let points =
            all.iter().enumerate().map(|(rank, at)| (at.max(from), (rank + 1) as f64 * 100.0 / all.len() as f64));
        let summary = &report.ttft_s;
        let label = format!("{name}: p50 {}, p90 {}, p99 {}", time(summary.p50), time(summary.p90), time(summary.p99));
        let line = colour.stroke_width(3);
        chart
            .draw_series(LineSeries::new(points, line))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 26, y)], line));
        let marks = [(summary.p50, 50.0), (summary.p90, 90.0), (summary.p99, 99.0)];
        chart.draw_series(marks.map(|mark| Circle::new((mark.0.max(from), mark.1), 5, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(18)
        .legend_area_size(36)
        .label_font((FONT, 16).into_font().color(&INK))
        .background_style(WHITE.mix(0.9))
        .border_style(FAINT)
        .draw()?;
    canvas.present()?;
    Ok(())
}

fn subtitle(curves: &[(&str, &Report)], prefill_tokens_per_s: Option<u32>) -> String {
    let requests = curves.iter().map(|(_, report)| report.requests).max().unwrap_or(0);
    match prefill_tokens_per_s {
        Some(rate) => format!("{requests} requests; simulated engines that compute {rate} prompt tokens a second each"),
        None => format!("{requests} requests"),
    }
}

fn draw_bars(outcome: &Outcome, canvas: &Canvas<'_>) -> Drawn {
    let bars: Vec<_> = outcome.bars.iter().filter_map(|bar| Some((bar, bar.ratio?))).collect();
    if bars.is_empty() {
        return Err("none of its bars has a limit to be compared with".into());
    }
    canvas.fill(&WHITE)?;
    let canvas = heading(canvas, &format!("weft bench {}", outcome.name), &outcome.machine.to_string())?;
    let longest = bars.iter().fold(1.0, |longest: f64, (_, ratio)| longest.max(*ratio)) * 1.1;
    let mut chart = ChartBuilder::on(&canvas)
        .margin_left(16)
        .margin_right(32)
        .margin_bottom(12)
        .x_label_area_size(52)
        .y_label_area_size(8)
        .build_cartesian_2d(0.0..longest, 0.0..bars.len() as f64)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .disable_y_mesh()
        .y_labels(0)
        .axis_style(INK.mix(0.5))
        .label_style((FONT, 15).into_font().color(&INK))
        .axis_desc_style((FONT, 16).into_font().color(&INK))
        .x_desc("value against its limit, measured in the same run")
        .draw()?;
    for (row, (bar, ratio)) in bars.iter().rev().enumerate() {
        let (row, limit) = (row as f64, bar.limit.map(number).unwrap_or_default());
        let colour = COLOURS[usize::from(bar.held == Some(false))];
        chart.draw_series([Rectangle::new([(0.0, row + 0.15), (*ratio, row + 0.5)], colour.filled())])?;
        let label = format!("{}: {} of {limit} {}  ({ratio:.2})", bar.id, number(bar.value), bar.unit);
        let style = (FONT, 16).into_font().color(&INK);
        chart.draw_series([Text::new(label, (longest * 0.004, row + 0.78), style)])?;
    }
    chart.draw_series([PathElement::new([(1.0, 0.0), (1.0, bars.len() as f64)], INK.stroke_width(2))])?;
    canvas.present()?;
    Ok(())
}

/// Title and subtitle; gives back what is below them.
fn heading<'a>(canvas: &Canvas<'a>, title: &str, subtitle: &str) -> Result<Canvas<'a>, Box<dyn std::error::Error>> {
    canvas.draw(&Text::new(title.to_owned(), (24, 18), (FONT, 26).into_font().color(&INK)))?;
    canvas.draw(&Text::new(subtitle.to_owned(), (24, 52), (FONT, 16).into_font().color(&INK.mix(0.7))))?;
    Ok(canvas.split_vertically(84).1)
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 0.001 => format!("{:.0} us", seconds * 1e6),
        seconds if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 9.995 => format!("{seconds:.1} s"),
        seconds => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::trace::report::Summary;

    fn report(scale: f64) -> Report {
        let mut samples: Vec<f64> = (1..500).map(|rank| scale * (f64::from(rank) / 80.0).exp() / 100.0).collect();
        let ttft_s = Summary::of(&mut samples);
        Report { requests: 499, ttft_s, ttft_samples_s: samples, ..Report::default() }
    }

    #[test]
    fn the_picture_names_what_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ttft.svg");
        let (with, without) = (report(0.3), report(1.0));
        ttft(&[("with weft", &with), ("without", &without)], Some(20_000), &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in ["Time to first token", "compute 20000 prompt tokens a second", "with weft", "without", "p99 1.5 s"]
        {
            assert!(svg.contains(text), "{text} is not in the picture");
        }
        assert!(svg.trim_end().ends_with("</svg>"));
        let empty = ttft(&[("nothing", &Report::default())], None, &path).unwrap_err().to_string();
        assert!(empty.contains("no request was answered"), "{empty}");
    }
}
