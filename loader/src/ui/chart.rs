// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Labels and counts -> bars: in a terminal, or as an SVG picture.
use super::paper::Paper;
use super::text::escape;

/// One bar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// What it stands for.
    pub label: String,
    /// How long it is.
    pub count: u64,
}

/// Characters in a line where nobody says how many there are.
const WIDTH: usize = 80;
/// Eighths of a character, none to seven.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// A bar a line, the longest as wide as there is room; whatever was counted at all has a mark.
pub fn text(bars: &[Bar], paper: &Paper) -> String {
    let labels: Vec<String> = bars.iter().map(|bar| escape(&bar.label)).collect();
    let label_width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let count_width = bars.iter().map(|bar| bar.count.to_string().len()).max().unwrap_or(0);
    let taken = label_width.saturating_add(count_width).saturating_add(4);
    let room = paper.width.unwrap_or(WIDTH).saturating_sub(taken).max(1);
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let line = |(bar, label): (&Bar, &String)| {
        let eighths = scaled(bar.count, most, (room as u64).saturating_mul(8)).max(u64::from(bar.count > 0));
        let whole = "█".repeat(usize::try_from(eighths / 8).unwrap_or(0));
        let part = EIGHTHS.get((eighths % 8) as usize).copied().unwrap_or_default();
        let line = format!("{label:<label_width$}  {:>count_width$}  {whole}{part}", bar.count);
        format!("{}\n", line.trim_end())
    };
    bars.iter().zip(&labels).map(line).collect()
}

fn scaled(count: u64, most: u64, room: u64) -> u64 {
    let product = u128::from(count).saturating_mul(room.into());
    u64::try_from(product.checked_div(most.into()).unwrap_or(0)).unwrap_or(room)
}

/// Pixels: of a line, of the labels, of the longest bar.
const LINE: u64 = 22;
const LABELS: u64 = 320;
const BAR: u64 = 400;

/// The same as a picture that needs nothing but itself.
pub fn svg(title: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let height = LINE.saturating_mul((bars.len() as u64).saturating_add(2));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"820\" height=\"{height}\" viewBox=\"0 0 820 {height}\" \
         font-family=\"monospace\" font-size=\"13\">\n\
         <title>{title}</title>\n\
         <rect width=\"820\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"17\" font-weight=\"bold\">{title}</text>\n",
        title = xml(title)
    );
    for (i, bar) in bars.iter().enumerate() {
        let top = LINE.saturating_mul((i as u64).saturating_add(1));
        let (base, from) = (top.saturating_add(15), LABELS.saturating_add(10));
        let width = scaled(bar.count, most, BAR).max(u64::from(bar.count > 0));
        let after = from.saturating_add(width).saturating_add(6);
        out.push_str(&format!(
            "<text x=\"{LABELS}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{from}\" y=\"{}\" width=\"{width}\" height=\"16\" fill=\"#36c\"/>\
             <text x=\"{after}\" y=\"{base}\">{}</text>\n",
            xml(&bar.label),
            top.saturating_add(3),
            bar.count
        ));
    }
    out.push_str("</svg>\n");
    out
}

/// Text between tags: the three characters that mean something there, and none that XML forbids.
fn xml(text: &str) -> String {
    escape(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars() -> Vec<Bar> {
        [("tcp/80", 100), ("udp/53", 50), ("evil<\x1b>&", 1), ("none", 0)]
            .map(|(label, count)| Bar { label: label.to_owned(), count })
            .to_vec()
    }

    #[test]
    fn bars_fill_the_line_that_there_is() {
        let text = text(&bars(), &Paper { width: Some(32), colour: false });
        // 32 columns, less the longest label, the longest count and two gaps: 12 for the longest bar.
        let expect = "\
tcp/80         100  ████████████
udp/53          50  ██████
evil<\\u{1b}>&    1  ▏
none             0
";
        assert_eq!(text, expect);
        assert_eq!(super::text(&[], &Paper::default()), "");
        let most = [Bar { label: String::new(), count: u64::MAX }];
        assert_eq!(super::text(&most, &Paper { width: Some(1), colour: false }).matches('█').count(), 1);
    }

    #[test]
    fn a_picture_holds_no_tag_of_somebody_elses() {
        let svg = svg("what <clients> asked", &bars());
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        assert!(svg.contains("evil&lt;\\u{1b}&gt;&amp;") && svg.contains("what &lt;clients&gt;"), "{svg}");
        let widths: Vec<&str> =
            svg.split("width=\"").skip(3).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(widths, ["400", "200", "4", "0"], "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
