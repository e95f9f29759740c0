//! Pictures as plain text.

use std::fmt::Write;

/// Text in a picture: `&`, `<` and `>` spelled out.
fn text(of: &str) -> String {
    of.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn frame(width: u32, height: u32, title: &str, body: &str) -> String {
    // Readable on white and on black: no background of its own, and grey for what is not data.
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#7d8590\">\n\
         <title>{0}</title>\n<text x=\"12\" y=\"22\" font-size=\"15\" font-weight=\"600\">{0}</text>\n{body}</svg>\n",
        text(title)
    )
}

/// A bar with its name before it and its figure behind it.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it is.
    pub name: String,
    /// How long it is.
    pub value: f64,
    /// Its figure in words.
    pub label: String,
    /// Whether it is ours.
    pub is_ours: bool,
}

/// Groups of bars, each with a scale of its own, that starts at nothing.
pub fn bars(title: &str, groups: &[(String, Vec<Bar>)]) -> String {
    const NAMES: f64 = 250.0;
    const LONGEST: f64 = 340.0;
    let mut body = String::new();
    let mut y = 50;
    for (group, bars) in groups {
        let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        writeln!(body, "<text x=\"12\" y=\"{y}\" font-weight=\"600\">{}</text>", text(group)).unwrap();
        for bar in bars {
            y += 20;
            let width = (bar.value / longest * LONGEST).max(1.0);
            let fill = if bar.is_ours { "#2f81f7" } else { "#8b949e" };
            let weight = if bar.is_ours { " font-weight=\"600\"" } else { "" };
            writeln!(body, "<text x=\"{NAMES}\" y=\"{y}\" text-anchor=\"end\"{weight}>{}</text>", text(&bar.name)).unwrap();
            writeln!(body, "<rect x=\"{}\" y=\"{}\" width=\"{width:.1}\" height=\"13\" rx=\"2\" fill=\"{fill}\"/>", NAMES + 8.0, y - 11).unwrap();
            writeln!(body, "<text x=\"{:.1}\" y=\"{y}\">{}</text>", NAMES + 16.0 + width, text(&bar.label)).unwrap();
        }
        y += 36;
    }
    frame(720, y, title, &body)
}

/// A line through points.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// Each at its place in the list of places.
    pub values: Vec<f64>,
}

impl Curve {
    /// A curve that is 1 at its first place.
    pub fn new(name: &str) -> Curve {
        Curve { name: name.into(), values: vec![1.0] }
    }

    /// Goes on by what a ratio of speeds makes of 1; ends where there is none.
    pub fn add(&mut self, ratio: Option<f64>) {
        self.values.extend(ratio.map(|ratio| 1.0 / ratio));
    }
}

/// Curves over places that stand side by side, on a scale that starts at nothing. Where they are all at 1, nothing grows.
pub fn curves(title: &str, places: &[String], curves: &[Curve]) -> String {
    const COLOURS: [&str; 5] = ["#2f81f7", "#3fb950", "#db6d28", "#a371f7", "#f778ba"];
    let (left, right, top, bottom) = (50.0, 480.0, 50.0, 290.0);
    let highest = curves.iter().flat_map(|curve| &curve.values).copied().fold(2.0, f64::max);
    let x = |place: usize| left + (right - left) * place as f64 / (places.len() - 1).max(1) as f64;
    let y = |value: f64| bottom - (bottom - top) * value / highest;
    let mut body = String::new();
    for step in 0..=4 {
        let value = highest * f64::from(step) / 4.0;
        writeln!(body, "<path d=\"M{left} {0:.1}H{right}\" stroke=\"#8b949e\" stroke-opacity=\"0.3\"/>", y(value)).unwrap();
        writeln!(body, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>", left - 6.0, y(value) + 4.0).unwrap();
    }
    for (place, name) in places.iter().enumerate() {
        writeln!(body, "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", x(place), bottom + 20.0, text(name)).unwrap();
    }
    for ((number, curve), colour) in curves.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> = curve.values.iter().enumerate().map(|(place, value)| format!("{:.1},{:.1}", x(place), y(*value))).collect();
        writeln!(body, "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", points.join(" ")).unwrap();
        let at = top + 8.0 + 22.0 * number as f64;
        writeln!(body, "<path d=\"M{} {at}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>", right + 14.0).unwrap();
        writeln!(body, "<text x=\"{}\" y=\"{}\">{}</text>", right + 38.0, at + 4.0, text(&curve.name)).unwrap();
    }
    frame(720, 330, title, &body)
}
