"""What `clipmill node RUN_DIR STAGE` does, run once on every node: starts the stage, watches it, says how it ended.

place.py: which node this is; meeting.py: how the nodes of one launch come to one attempt; stage.py: the process of the
stage, its log and its end; watch.py: whether it lives, and what is asked of it; alive.py: processes by number and
start; joining.py: Ray on several nodes; gate.py: what has to be there before a stage; committed.py: what a curation has
done on the way to its manifest; verdict.py: how an attempt ended and what to exit with; wrapper.py: all of it in order;
relaunch.py: the stages of a run one after the other on this machine, started again as the exit codes say.
"""
