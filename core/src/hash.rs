//! The server's hash of bytes (`hash_bytes`, Bob Jenkins' lookup3). Node ids, interface ids, set ids and shortened names
//! are made of it, so every node must compute the same number.
//!
//! # Invariants
//! 1. The result is the one of a little-endian server, on every machine.

const fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

const fn last_mix(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    (c ^ b).wrapping_sub(b.rotate_left(24))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).enumerate().fold(0, |word, (at, byte)| word | u32::from(*byte) << (8 * at))
}

/// The 32-bit hash of `bytes`, without a terminating NUL.
pub fn hash_bytes(bytes: &[u8]) -> u32 {
    let start = 0x9e37_79b9_u32.wrapping_add(bytes.len() as u32).wrapping_add(3_923_095);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut chunks = bytes.chunks_exact(12);
    for chunk in &mut chunks {
        (a, b, c) =
            mix(a.wrapping_add(word(chunk)), b.wrapping_add(word(&chunk[4..])), c.wrapping_add(word(&chunk[8..])));
    }
    let rest = chunks.remainder();
    let part = |from: usize| rest.get(from..).map_or(0, word);
    a = a.wrapping_add(part(0));
    b = b.wrapping_add(part(4));
    // The lowest byte of `c` holds the length, so the tail begins one byte higher.
    c = c.wrapping_add(part(8) << 8);
    last_mix(a, b, c)
}

#[cfg(test)]
mod tests {
    use super::hash_bytes;

    #[test]
    fn agrees_with_the_server() {
        for (text, want) in [("n1", 0x2827_c22c_u32), ("n2", 0x216d_68ef), ("test_subscription", 3_848_008_564)] {
            assert_eq!(hash_bytes(text.as_bytes()), want, "{text}");
        }
    }
}
