"""The ground floor: standard library only; imports none of our packages."""
