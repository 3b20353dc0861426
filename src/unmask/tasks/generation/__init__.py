"""How a text is written: from left to right, or in parallel rounds. Read `options` first."""
