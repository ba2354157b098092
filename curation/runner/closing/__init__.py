"""What happens between two segments, all buckets taking part: one file for each sort of stage that asks for it.

ask(job, here, bucket, pairs)            at the end of a segment's task: what this bucket has to say, as files
close(job, here, asked, do)              on the driver: the tasks that settle it
verdicts(job, here, bucket, pairs)       at the start of the next segment's task
"""
