//! A report as one page that needs nothing else: figures, and pictures as SVG inside. Pure.

use super::Report;
use crate::load::tally::Latency;
use crate::load::verdict;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

const SIZE: (u32, u32) = (860, 300);
const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0xb2);
const OTHER: RGBColor = RGBColor(0xc4, 0x4e, 0x2a);

/// A line of a picture: its name, colour and points.
struct Curve {
    name: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

impl Report {
    /// A page for a browser.
    #[must_use]
    pub fn html(&self) -> String {
        let pictures = [
            ("Latency by percentile", self.spectrum()),
            ("Replies a second", self.throughput()),
            ("Latency over time", self.latency_over_time()),
            ("CPUs in use", self.cpu()),
        ];
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n\
             <title>ringfort bench: {url}</title>\n<style>{STYLE}</style>\n\
             <h1>{url}</h1>\n<p class=\"{class}\">{verdict}</p>\n<pre>{text}</pre>\n",
            url = escaped(&self.plan.url),
            class = if self.is_valid() { "valid" } else { "invalid" },
            verdict = escaped(&self.verdict()),
            text = escaped(&self.text()),
        );
        for (title, svg) in pictures {
            page += &format!("<h2>{title}</h2>\n");
            // A picture that cannot be drawn must not cost the figures.
            page += &svg.unwrap_or_else(|error| format!("<p>{}</p>", escaped(&error.to_string())));
            page.push('\n');
        }
        page
    }

    fn spectrum(&self) -> Result<String, Box<dyn Error>> {
        let mut curves =
            vec![Curve { name: "response", colour: OURS, points: spectrum(self.latency()) }];
        if self.offered().is_some() {
            let points = spectrum(&self.tally.service);
            curves.push(Curve { name: "service", colour: OTHER, points });
        }
        draw(&curves, "percentile", "milliseconds", &percentile)
    }

    fn throughput(&self) -> Result<String, Box<dyn Error>> {
        #[expect(clippy::cast_precision_loss, reason = "a picture")]
        let points = |count: fn(&crate::load::tally::Second) -> u64| {
            let seconds = (0_u32..).zip(&self.tally.seconds);
            // The last second is not a whole one.
            let whole = usize::try_from(self.measured.as_secs()).unwrap_or(usize::MAX);
            seconds.take(whole.max(1)).map(|(at, s)| (f64::from(at), count(s) as f64)).collect()
        };
        let replies = points(|second| second.replies);
        let failures = points(|second| second.failures);
        let curves = [
            Curve { name: "replies", colour: OURS, points: replies },
            Curve { name: "failures", colour: OTHER, points: failures },
        ];
        draw(&curves, "second", "a second", &plain)
    }

    fn latency_over_time(&self) -> Result<String, Box<dyn Error>> {
        #[expect(clippy::cast_precision_loss, reason = "a picture")]
        let points = |part: f64| {
            let seconds = (0_u32..).zip(&self.tally.seconds);
            let some = seconds.filter(|(_, second)| !second.latency.is_empty());
            let millis = |value: u64| value as f64 / 1e3;
            some.map(|(at, second)| (f64::from(at), millis(second.latency.value_at_quantile(part))))
                .collect()
        };
        let curves = [
            Curve { name: "p50", colour: OURS, points: points(0.5) },
            Curve { name: "p99", colour: OTHER, points: points(0.99) },
        ];
        draw(&curves, "second", "milliseconds", &plain)
    }

    fn cpu(&self) -> Result<String, Box<dyn Error>> {
        let at = |sample: &super::Sample| sample.at.as_secs_f64();
        let client = self.samples.iter().map(|sample| (at(sample), sample.client_cores));
        let server = self.samples.iter().filter_map(|s| Some((at(s), s.server_cores?)));
        let mut curves = vec![Curve { name: "client", colour: OURS, points: client.collect() }];
        if self.server.is_some() {
            curves.push(Curve { name: "server", colour: OTHER, points: server.collect() });
        }
        draw(&curves, "second", "CPUs", &plain)
    }
}

/// Each "nine" is as wide as the one before: x is −log10 of the part that is slower.
fn spectrum(latency: &Latency) -> Vec<(f64, f64)> {
    if latency.is_empty() {
        return Vec::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let nines = (latency.len() as f64).log10().clamp(1.0, 6.0);
    let steps = 40.0 * nines;
    let mut points = Vec::new();
    let mut step = 0.0;
    while step <= steps {
        let x = step / 40.0;
        let time = verdict::at(latency, 1.0 - 10_f64.powf(-x));
        points.push((x, time.as_secs_f64() * 1e3));
        step += 1.0;
    }
    points
}

/// As many digits as tell it from its neighbours: 90 %, 99 %, 99.9 %, 99.99 %.
fn percentile(nines: &f64) -> String {
    let scale = 10_f64.powf((nines.ceil() - 1.0).max(0.0));
    format!("{} %", (10_f64.powf(-nines).mul_add(-100.0, 100.0) * scale).round() / scale)
}

fn plain(value: &f64) -> String {
    format!("{}", (value * 100.0).round() / 100.0)
}

fn draw(
    curves: &[Curve],
    x_name: &str,
    y_name: &str,
    x_label: &dyn Fn(&f64) -> String,
) -> Result<String, Box<dyn Error>> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    if points().count() < 2 {
        return Ok("<p>too short a run for a picture</p>".to_owned());
    }
    let x_max = points().map(|(x, _)| *x).fold(f64::MIN_POSITIVE, f64::max);
    let y_max = points().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = String::new();
    {
        let area: DrawingArea<SVGBackend<'_>, Shift> =
            SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..x_max, 0.0..y_max * 1.08)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_labels(7)
            .x_desc(x_name)
            .y_desc(y_name)
            .x_label_formatter(x_label)
            .y_label_formatter(&plain)
            .draw()?;
        for curve in curves {
            let style = curve.colour.stroke_width(2);
            let points = curve.points.iter().copied();
            chart
                .draw_series(LineSeries::new(points, style))?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw()?;
        area.present()?;
    }
    Ok(svg)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;\
    padding:0 1em;color:#222}h1{font-size:1.3em;word-break:break-all}h2{font-size:1.05em;\
    margin:1.6em 0 .3em}pre{background:#f6f6f4;padding:1em;overflow-x:auto;font-size:13px}\
    .valid,.invalid{padding:.5em 1em;border-left:4px solid #3a7d44;background:#eef6ef}\
    .invalid{border-color:#c44e2a;background:#fbefe9}svg{max-width:100%;height:auto}";
