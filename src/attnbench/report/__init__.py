"""Records in, paper out: pure functions of run.json, plan.json, table.yaml and paper.yaml. No torch."""
