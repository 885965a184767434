// SPDX-License-Identifier: MIT OR GPL-2.0-or-later
//! Columns -> lines as wide as the screen: what matters least is left out first.
use super::spark::Glyphs;

/// A column of cells that are already harmless.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its head.
    pub head: &'static str,
    /// Numbers lean to the right.
    pub right: bool,
    /// Columns with a higher one are left out before this one; 0 stays.
    pub rank: u8,
    /// Cells that are longer than a quarter of the screen are cut, so that one long one hides no other columns.
    pub shrinks: bool,
    /// One a row.
    pub cells: Vec<String>,
}

/// Characters that are left of a cell in any case.
const LEAST: usize = 16;

impl Column {
    /// Words.
    pub fn left(head: &'static str, rank: u8, cells: impl Iterator<Item = String>) -> Column {
        Column { head, right: false, rank, shrinks: false, cells: cells.collect() }
    }

    /// Numbers.
    pub fn right(head: &'static str, rank: u8, cells: impl Iterator<Item = String>) -> Column {
        Column { head, right: true, rank, shrinks: false, cells: cells.collect() }
    }

    fn width(&self) -> usize {
        let cells = self.cells.iter().map(String::as_str).chain([self.head]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

/// The head and the rows. Widths are those of all cells, so that nothing moves while one scrolls.
pub fn lines(mut columns: Vec<Column>, width: usize, glyphs: Glyphs) -> (String, Vec<String>) {
    for column in columns.iter_mut().filter(|column| column.shrinks) {
        let most = LEAST.max(width.checked_div(4).unwrap_or(0));
        column.cells.iter_mut().for_each(|cell| *cell = cut(cell, most, glyphs));
    }
    let total = |columns: &[Column]| {
        let gaps = columns.len().saturating_sub(1).saturating_mul(2);
        columns.iter().fold(gaps, |sum, column| sum.saturating_add(column.width()))
    };
    while total(&columns) > width {
        let last = columns.iter().enumerate().max_by_key(|(_, column)| column.rank);
        match last.filter(|(_, column)| column.rank > 0).map(|(at, _)| at) {
            Some(at) => drop(columns.remove(at)),
            None => break,
        }
    }
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let line = |cell: &dyn Fn(&Column) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, width)| match column.right {
            true => format!("{:>width$}", cell(column)),
            false => format!("{:<width$}", cell(column)),
        });
        cut(cells.collect::<Vec<_>>().join("  ").trim_end(), width, glyphs)
    };
    let rows = columns.iter().map(|column| column.cells.len()).max().unwrap_or(0);
    let row = |n: usize| line(&|column: &Column| column.cells.get(n).cloned().unwrap_or_default());
    (line(&|column: &Column| column.head.to_owned()), (0..rows).map(row).collect())
}

/// A line that fits.
pub fn cut(line: &str, width: usize, glyphs: Glyphs) -> String {
    match line.chars().count() > width {
        true => line.chars().take(width.saturating_sub(1)).chain([glyphs.cut()]).take(width).collect(),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_least_goes_first() {
        let column = |head, rank, cell: &str| Column::left(head, rank, [cell.to_owned()].into_iter());
        let columns = || {
            let number = Column::right("N", 0, ["7".to_owned()].into_iter());
            vec![column("WHO", 0, "client"), column("LEAST", 2, "x"), column("LESS", 1, "y"), number]
        };
        let at = |width| lines(columns(), width, Glyphs::Ascii);
        let is = |head: &str, row: &str| (head.to_owned(), vec![row.to_owned()]);
        assert_eq!(at(22), is("WHO     LEAST  LESS  N", "client  x      y     7"));
        assert_eq!(at(21), is("WHO     LESS  N", "client  y     7"));
        assert_eq!(at(9), is("WHO     N", "client  7"));
        assert_eq!(at(5), is("WHO ~", "clie~"));
        assert_eq!(at(0), is("", ""));
    }

    #[test]
    fn a_long_cell_hides_no_columns() {
        let name =
            |cell: &str| Column { shrinks: true, ..Column::left("NAME", 2, [cell.to_owned()].into_iter()) };
        let more = || Column::left("MORE", 3, ["x".to_owned()].into_iter());
        let at = |cell: &str, width| lines(vec![more(), name(cell)], width, Glyphs::Ascii).1[0].clone();
        assert_eq!(at("a.name.of.more.than.20.characters", 40), "x     a.name.of.more.~");
        assert_eq!(at("a.name.of.more.than.20.characters", 80), "x     a.name.of.more.than~");
        assert_eq!(at("sixteen.letters.", 40), "x     sixteen.letters.");
    }
}
