"""Records: files of runs and sweeps (run.json, plan.json, history.jsonl), and how runs are identified. No torch."""
