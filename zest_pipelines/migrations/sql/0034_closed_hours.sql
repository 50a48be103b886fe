-- In closed hours nothing is read either, and what could not be read before them opens no alert in them.
GRANT SELECT (closed) ON sync.connection TO zest_schedule;
GRANT SELECT (land_every) ON sync.connection TO zest_alert;
