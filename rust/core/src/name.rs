//! The names by which statistics, tails and scopes are chosen.

use crate::error::Error;

/// Something that is chosen by name.
pub trait Named: Copy + PartialEq + 'static {
    /// What kind of thing it is, for messages.
    const WHAT: &'static str;
    /// All of them, each with its name.
    const ALL: &'static [(&'static str, Self)];

    /// The one with this name.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownName`], with the names that exist.
    fn by_name(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, thing)| *thing).ok_or_else(|| Error::UnknownName {
            what: Self::WHAT,
            received: name.to_owned(),
            known: Self::ALL.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", "),
        })
    }

    /// Its name.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, thing)| *thing == self).map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::Named;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Side {
        Left,
        Right,
    }

    impl Named for Side {
        const WHAT: &'static str = "side";
        const ALL: &'static [(&'static str, Self)] = &[("left", Side::Left), ("right", Side::Right)];
    }

    #[test]
    fn an_unknown_name_lists_the_known() {
        let error = Side::by_name("up").expect_err("no such side");
        assert_eq!(error.to_string(), r#"unknown side "up"; known are left, right"#);
    }

    #[test]
    fn names_lead_back() {
        assert_eq!(Side::by_name("right").map(Named::name), Ok("right"));
    }
}
