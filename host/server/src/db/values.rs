//! `VALUES (…), (…)`: the one place where the dialects write a placeholder differently.

use super::Dialect;

/// Placeholders for `rows` rows of `columns` values each: `($1, $2), ($3, $4)`.
///
/// SQLite gets `?`: it looks a numbered placeholder up in a list, from its beginning, which took a
/// third of a busy host's time.
pub(super) fn placeholders(dialect: Dialect, rows: usize, columns: usize) -> String {
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
            (Dialect::Postgres, "($1, $2), ($3, $4)"),
            (Dialect::Sqlite, "(?, ?), (?, ?)"),
        ] {
            assert_eq!(placeholders(dialect, 2, 2), expected);
        }
    }
}
