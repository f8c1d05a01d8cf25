-- Components that no deployment uses are deleted: whether one is used is asked by its digest.
CREATE INDEX deployments_by_digest ON deployments (digest);
