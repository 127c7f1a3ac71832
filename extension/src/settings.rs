//! Every setting: name, unit, default, range, reason; typed getters.
