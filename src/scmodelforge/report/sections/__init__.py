"""The subjects of a report: each module says what a page shows of one."""
