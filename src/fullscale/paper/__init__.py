"""The paper for its students: formulas with numbers, tables beside what is counted here, figures from the modules."""
