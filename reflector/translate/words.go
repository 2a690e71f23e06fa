package translate

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// AtHome returns the words of a provider as home says them: the name of the tenant namespace is that of home wherever it
// stands as a whole word (web_app-8f3c1d2e(uid), app-8f3c1d2e/web). Everything else, the twin's UID too, stays: it is what
// the provider's administrator can look for.
func AtHome(words, remote, home string) string {
	if remote == "" || remote == home || !strings.Contains(words, remote) {
		return words
	}
	var said strings.Builder
	before := byte(' ')
	for {
		i := strings.Index(words, remote)
		if i < 0 {
			said.WriteString(words)
			return said.String()
		}
		if i > 0 {
			before = words[i-1]
		}
		end := i + len(remote)
		said.WriteString(words[:i])
		if inName(before) || end < len(words) && inName(words[end]) {
			said.WriteString(remote)
		} else {
			said.WriteString(home)
		}
		before, words = words[end-1], words[end:]
	}
}

// inName says whether a character may be part of the name of a namespace, so that the word goes on.
func inName(c byte) bool {
	return c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// statusesAtHome returns the statuses of containers with the kubelet's words as home says them: the same slice if they all
// are. remote and home are the names of the namespace.
func statusesAtHome(list []corev1.ContainerStatus, remote, home string) []corev1.ContainerStatus {
	copied := false
	for i := range list {
		now, last := stateAtHome(list[i].State, remote, home), stateAtHome(list[i].LastTerminationState, remote, home)
		if now == list[i].State && last == list[i].LastTerminationState {
			continue
		}
		if !copied {
			list, copied = append([]corev1.ContainerStatus(nil), list...), true
		}
		list[i].State, list[i].LastTerminationState = now, last
	}
	return list
}

// stateAtHome shares with s what does not change.
func stateAtHome(s corev1.ContainerState, remote, home string) corev1.ContainerState {
	if s.Waiting != nil {
		if words := AtHome(s.Waiting.Message, remote, home); words != s.Waiting.Message {
			waiting := *s.Waiting
			waiting.Message, s.Waiting = words, &waiting
		}
	}
	if s.Terminated != nil && !programSpeaks(s.Terminated.Reason) {
		if words := AtHome(s.Terminated.Message, remote, home); words != s.Terminated.Message {
			terminated := *s.Terminated
			terminated.Message, s.Terminated = words, &terminated
		}
	}
	return s
}

// programSpeaks says whether the message of a container that ended for this reason is the program's own (its termination
// log): that is handed on as it is.
func programSpeaks(reason string) bool {
	switch reason {
	case "Completed", "Error", "OOMKilled":
		return true
	}
	return false
}
