//! Whether something failed because this process, or its system, has too many files open.

use std::io;

use rustix::io::Errno;

/// Whether there was no file descriptor left. It says nothing about what was to be opened.
pub fn is_out_of_files(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_want_of_descriptors_is_one() {
        assert!([Errno::NFILE, Errno::MFILE].into_iter().all(|errno| is_out_of_files(&errno.into())));
        assert!(!is_out_of_files(&Errno::NOENT.into()));
        assert!(!is_out_of_files(&io::ErrorKind::Other.into()));
    }
}
