"""Attacked files of many types, by attackers who know the detector and who do not; and edits that are no attack."""
