-- The author of the comment on an interval.

ALTER TABLE state_comments ADD COLUMN author TEXT;

COMMENT ON COLUMN state_comments.author IS
    'Who wrote it last: a user of the page, or of the computer where the command ran; NULL: not known.';
