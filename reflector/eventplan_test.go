package reflector

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPlanEvent(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	at := func(d time.Duration) metav1.Time { return metav1.NewTime(start.Add(d)) }
	now := start.Add(time.Hour)
	for name, row := range map[string]struct {
		told   toldEvent
		tokens float64
		count  int32
		last   metav1.Time
		todo   eventStep
		again  time.Duration
	}{
		"new":                                   {toldEvent{}, 25, 1, at(59 * time.Minute), eventCreate, 0},
		"new, and too many":                     {toldEvent{}, 0.5, 1, at(59 * time.Minute), eventNone, 0},
		"from before this process":              {toldEvent{}, 25, 1, at(-time.Minute), eventLook, 0},
		"from before, too many, perhaps told":   {toldEvent{}, 0, 1, at(-time.Minute), eventLook, 0},
		"from before, and not told":             {toldEvent{state: eventAbsent}, 25, 1, at(-time.Minute), eventCreate, 0},
		"there, nobody looked":                  {toldEvent{state: eventThere}, 25, 1, at(59 * time.Minute), eventLook, 0},
		"told":                                  {toldEvent{eventKnown, 3, at(50 * time.Minute).Time, start}, 25, 3, at(50 * time.Minute), eventNone, 0},
		"told by another object that went on":   {toldEvent{eventKnown, 3, at(50 * time.Minute).Time, start}, 25, 1, at(40 * time.Minute), eventNone, 0},
		"counted further":                       {toldEvent{eventKnown, 3, at(50 * time.Minute).Time, start}, 0, 4, at(55 * time.Minute), eventPatch, 0},
		"counted further just after a write":    {toldEvent{eventKnown, 3, at(50 * time.Minute).Time, now.Add(-10 * time.Second)}, 0, 4, at(55 * time.Minute), eventNone, 20 * time.Second},
		"seen again by an object that is young": {toldEvent{eventKnown, 3, at(50 * time.Minute).Time, start}, 0, 1, at(55 * time.Minute), eventPatch, 0},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newToldPod(now)
			pod.tokens = row.tokens
			if row.told != (toldEvent{}) {
				pod.events["web.1"] = row.told
			}
			want := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "web.1"}, Count: row.count, LastTimestamp: row.last}
			todo, again := pod.plan(want, start, now)
			if todo != row.todo || again != row.again {
				t.Errorf("%s, again after %s; want %s after %s", todo, again, row.todo, row.again)
			}
			if want.Count < row.told.count && todo == eventPatch {
				t.Errorf("the count falls from %d to %d", row.told.count, want.Count)
			}
		})
	}
}

// TestToldPod_RemembersLittle: what was told long ago is looked up again instead of kept.
func TestToldPod_RemembersLittle(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	pod := newToldPod(now)
	for i := range 1000 {
		now = now.Add(eventRefill)
		pod.note(string(rune('a'+i)), toldEvent{eventKnown, 1, now, now})
	}
	if n := len(pod.events); n > eventsRemembered {
		t.Errorf("%d Events are remembered", n)
	}
}
