//! A file that is mapped read-only: its pages come from the disk when they are looked at, and all processes that map it
//! share them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use memmap2::Mmap;

/// A mapped file, for as long as something of it is used, even where it has lost its name.
///
/// A file that is shortened meanwhile ends the process (SIGBUS) when it looks at what is gone: replace it by another of
/// its name, as by renaming, and never write into it.
#[derive(Debug, Clone)]
pub struct MappedFile(Arc<Mmap>);

impl MappedFile {
    /// Map the whole file.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or mapped.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: nothing is written through the map, and it is read as integers, of which all bits are valid; files are
        // replaced, not written into (see above).
        let map = unsafe { Mmap::map(&file) }?;
        Ok(MappedFile(Arc::new(map)))
    }

    /// Its bytes, of which the first begins a page.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What the content of a file is known by.
#[derive(Debug)]
pub struct Seal {
    /// What to call the file where it is damaged.
    pub(crate) name: String,
    pub(crate) checksum: String,
    /// Known once it has been compared. No lock is held meanwhile (see [`First`](crate::memory::First)).
    pub(crate) is_intact: OnceLock<bool>,
}

impl Seal {
    /// The seal of a file with the checksum of what was written.
    #[must_use]
    pub fn new(name: String, checksum: String) -> Self {
        Seal { name, checksum, is_intact: OnceLock::new() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;
    use std::{env, fs, process};

    use super::MappedFile;

    /// A file for a test, which is mapped and has lost its name.
    pub(crate) fn mapped(name: &str, content: &[u8]) -> MappedFile {
        let path: PathBuf = env::temp_dir().join(format!("subsetscan-{}-{name}", process::id()));
        fs::write(&path, content).expect("a folder for temporary files");
        let file = MappedFile::open(&path).expect("just written");
        #[cfg(unix)]
        fs::remove_file(&path).expect("just written");
        file
    }

    #[test]
    fn a_file_is_its_bytes() {
        for content in [&b""[..], b"abc", &[7; 5000]] {
            assert_eq!(mapped("bytes", content).bytes(), content);
        }
        let missing = env::temp_dir().join("subsetscan-none");
        assert!(MappedFile::open(&missing).is_err());
    }
}
