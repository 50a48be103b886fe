"""Care CSV (ケアプランデータ連携標準仕様): files in a folder, exchanged with the care managers' offices."""
