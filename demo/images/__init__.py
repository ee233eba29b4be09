"""Run the loop on a folder of real images: new boards are mined, old ones replayed, both judged."""
