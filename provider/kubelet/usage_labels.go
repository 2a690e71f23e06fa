package kubelet

import (
	"bytes"
	"strings"
)

// uidLength is that of a UUID as text (RFC 9562).
const uidLength = 36

// blockEnd is where a label block that begins with its brace ends, after the closing one; -1 if it does not. Braces in quotes count
// for nothing.
func blockEnd(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '}':
			return i + 1
		case '"':
			length := quoted(text[i+1:])
			if length < 0 {
				return -1
			}
			i += length + 1
		}
	}
	return -1
}

// quoted is how long a value is whose opening quote was read: up to the next quote without a backslash of its own. -1: there is none.
func quoted(text []byte) int {
	for i := 0; i < len(text); i++ {
		at := bytes.IndexByte(text[i:], '"')
		if at < 0 {
			return -1
		}
		i += at
		slashes := 0
		for slashes < i && text[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
	return -1
}

// readBlock finds in a label block whose it is and what has to be rewritten; false when it is not one. Namespaces and names of pods
// need no escapes; a value with one is of no pod.
func readBlock(text string) (b block, pod podName, ok bool) {
	b.text = text
	for i := 1; ; {
		i += len(text[i:]) - len(strings.TrimLeft(text[i:], " \t,"))
		if text[i] == '}' {
			return b, pod, true
		}
		equals := strings.IndexByte(text[i:], '=')
		if equals < 0 || i+equals+1 >= len(text) || text[i+equals+1] != '"' {
			return b, pod, false
		}
		name := strings.TrimRight(text[i:i+equals], " \t")
		start := i + equals + 2
		length := quoted([]byte(text[start:]))
		if length < 0 {
			return b, pod, false
		}
		end := start + length
		switch value := text[start:end]; name {
		case "namespace":
			pod.namespace, b.namespace, b.namespaceEnd = value, int32(start), int32(end)
		case "pod":
			pod.name = value
		case "id":
			if at := uidInPath(value); at >= 0 {
				b.uid = int32(start + at)
			}
		}
		i = end + 1
	}
}

// uidInPath is where in a cgroup's path the UID of its pod begins, -1 for nowhere: /kubepods/burstable/podUID/… with the cgroupfs
// driver, /kubepods.slice/kubepods-burstable-podUID.slice/… with systemd's, which has _ in place of -, its own separator.
func uidInPath(path string) int {
	for from := 0; ; {
		at := strings.Index(path[from:], "pod")
		if at < 0 {
			return -1
		}
		from += at + len("pod")
		if len(path) >= from+uidLength && isUID(path[from:from+uidLength]) {
			return from
		}
	}
}

// isUID says whether text is a UUID, its groups apart by - or by _.
func isUID(text string) bool {
	separator := text[8]
	if separator != '-' && separator != '_' {
		return false
	}
	for i := range len(text) {
		switch i {
		case 8, 13, 18, 23:
			if text[i] != separator {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdefABCDEF", rune(text[i])) {
				return false
			}
		}
	}
	return true
}

// appendBlock writes the block with the namespace and UID of home. The UID's groups are apart as those of the twin's were.
func (b *block) appendBlock(out []byte, namespace, uid string) []byte {
	last := int32(0)
	putNamespace := func() {
		out = append(append(out, b.text[last:b.namespace]...), namespace...)
		last = b.namespaceEnd
	}
	if b.uid == 0 {
		putNamespace()
		return append(out, b.text[last:]...)
	}
	if b.namespace < b.uid {
		putNamespace()
	}
	out = append(out, b.text[last:b.uid]...)
	last = b.uid + uidLength
	separator := b.text[b.uid+8]
	for i := range len(uid) {
		if uid[i] == '-' {
			out = append(out, separator)
		} else {
			out = append(out, uid[i])
		}
	}
	if b.namespace > b.uid {
		putNamespace()
	}
	return append(out, b.text[last:]...)
}
