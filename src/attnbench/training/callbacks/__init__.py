"""Lightning callbacks of a run. They read what a module returns and import no task and no model."""
