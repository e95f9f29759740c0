//! How wide the terminal is that our words go to.

/// Where there is no terminal, or one that does not tell.
pub(crate) const COLUMNS: usize = 80;

/// Nothing that has columns can be told in fewer, and in more it is hard to follow.
const COLUMNS_MIN: usize = 40;
const COLUMNS_MAX: usize = 160;

/// The columns of the terminal on stderr, as it is now.
pub(crate) fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let columns = size.map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS } else { columns.clamp(COLUMNS_MIN, COLUMNS_MAX) }
}
