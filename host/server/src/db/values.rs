//! `VALUES (…), (…)`: the one place where the dialects write a placeholder differently.

use super::Dialect;

/// Rows of one statement: few sizes, so that each statement is prepared once and kept.
const PIECES: [usize; 3] = [128, 16, 1];

/// Rows in pieces that are written by a statement each.
pub(super) fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = PIECES.into_iter().find(|&size| size <= rows.len())?;
        let (piece, rest) = rows.split_at(size);
        rows = rest;
        Some(piece)
    })
}

/// Placeholders for `rows` rows of `columns` values each, and the text that ends each row:
/// `($1, $2, 0), ($3, $4, 0)`.
///
/// SQLite gets `?`: it looks a numbered placeholder up in a list, from its beginning, which took a
/// third of a busy host's time.
pub(super) fn placeholders(dialect: Dialect, rows: usize, columns: usize, end: &str) -> String {
    let mut text = String::new();
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            if column > 1 {
                text.push_str(", ");
            }
            match dialect {
                Dialect::Sqlite => text.push('?'),
                Dialect::Postgres => {
                    text.push('$');
                    text.push_str(&(row * columns + column).to_string());
                }
            }
        }
        text.push_str(end);
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_its_place() {
        for (dialect, expected) in [
            (Dialect::Postgres, "($1, $2, 0), ($3, $4, 0)"),
            (Dialect::Sqlite, "(?, ?, 0), (?, ?, 0)"),
        ] {
            assert_eq!(placeholders(dialect, 2, 2, ", 0"), expected);
        }
    }

    #[test]
    fn rows_are_written_in_pieces_of_few_sizes() {
        let rows: Vec<usize> = (0..128 + 2 * 16 + 3).collect();
        let sizes: Vec<usize> = pieces(&rows).map(<[usize]>::len).collect();
        assert_eq!(sizes, [128, 16, 16, 1, 1, 1]);
        assert!(pieces(&rows).flatten().eq(&rows));
    }
}
