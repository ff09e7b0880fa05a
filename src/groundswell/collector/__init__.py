"""HTTP intake: keys, admission, decode, group commit. A 2xx is sent after the append is durable, never before."""
