// The timer of herald.batch_time. When most of it is over, no further task of the batch is to begin; what is
// left of it then is for the task that runs, which is cancelled at the end, unless it is the first.

#pragma once

namespace herald {

void InitBatchTimer();  // once per worker process

void StartBatchTimer();
void StopBatchTimer();

// True from some time before the end of the batch time on.
bool BatchTimeOver();

// From here on the end of the batch time cancels what runs, until LetRun.
void CutAtBatchTime();
void LetRun();
// True where the end of the batch time came between the last CutAtBatchTime and the LetRun after it, also if
// the handler took no notice.
bool WasCut();

}  // namespace herald
