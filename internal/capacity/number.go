package capacity

import (
	"strconv"
	"strings"
)

// decimal writes a number without an exponent, with what matters of its fraction.
func decimal(n float64) string {
	text := strconv.FormatFloat(n, 'f', precision(n), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

func precision(n float64) int {
	switch {
	case n >= 100 || n <= -100:
		return 0
	case n >= 1 || n <= -1:
		return 1
	}
	return 3
}

// Grouped writes a number for people: 1,234,567 or 0.25.
func Grouped(n float64) string {
	whole, fraction, isBroken := strings.Cut(decimal(n), ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if isBroken {
		return whole + "." + fraction
	}
	return whole
}
