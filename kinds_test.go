package guildhall

import (
	"maps"
	"testing"
	"time"
)

func TestDefaultKinds(t *testing.T) {
	t.Parallel()
	var kinds Kinds
	if err := kinds.Decode(DefaultKinds); err != nil {
		t.Fatal(err)
	}
	want := Kinds{
		"guild": {Capacity: 1000, IdleGrace: 30 * time.Second, History: 1000},
		"party": {Capacity: 100, IdleGrace: 10 * time.Second, History: 200},
	}
	if !maps.Equal(kinds, want) {
		t.Errorf("DefaultKinds = %+v, want %+v", kinds, want)
	}
	if kinds.String() != DefaultKinds {
		t.Errorf("String = %q, want %q", kinds, DefaultKinds)
	}
}

func TestKindsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		DefaultKinds, "guild", "guild;", ";;a;b ; c\t history=7", "x capacity=1 idle=1ms history=1", "x idle=90m", "z\n;a",
		"a-1 history=5 capacity=3", "guild keep=720h", "guild keep=0; party keep=1ms idle=1s",
	} {
		var kinds, again Kinds
		if err := kinds.Decode(text); err != nil {
			t.Errorf("Decode(%q): %v", text, err)
			continue
		}
		if err := again.Decode(kinds.String()); err != nil || !maps.Equal(kinds, again) {
			t.Errorf("%q becomes %q and then %+v, %v; want %+v", text, kinds, again, err, kinds)
		}
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	var kinds Kinds
	if err := kinds.Decode("guild keep=720h; party; crowd keep=0"); err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[Kind]time.Duration{"guild": 720 * time.Hour, "party": 0, "crowd": 0} {
		if kinds[kind].Keep != want {
			t.Errorf("a %s is kept for %s, want %s", kind, kinds[kind].Keep, want)
		}
	}
}

func TestLeftOutRulesAreThoseOfAGuild(t *testing.T) {
	t.Parallel()
	var kinds, defaults Kinds
	if err := defaults.Decode(DefaultKinds); err != nil {
		t.Fatal(err)
	}
	if err := kinds.Decode("clan"); err != nil || kinds["clan"] != defaults["guild"] {
		t.Errorf("rules of a clan = %+v, %v; want %+v", kinds["clan"], err, defaults["guild"])
	}
}

func TestBadKinds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, says string }{
		{"", "no kinds; want for example"},
		{" ; ;", "no kinds"},
		{"Guild", `the kind has 'G'`},
		{"guild:x", `the kind has ':'`},
		{"guild; party; guild", `kind "guild" stands twice`},
		{"guild capacity", `rule "capacity"`},
		{"guild capacity=", `rule "capacity="`},
		{"guild capacity=0", "0 is not at least 1"},
		{"guild capacity=-5", "-5 is not at least 1"},
		{"guild capacity=many", `rule "capacity=many"`},
		{"guild capacity=1e3", `rule "capacity=1e3"`},
		{"guild capacity=99999999999999999999", "out of range"},
		{"guild history=0", "0 is not at least 1"},
		{"guild idle=", `rule "idle="`},
		{"guild idle=5", "missing unit"},
		{"guild idle=0s", "0s is not more than 0"},
		{"guild idle=-1s", "-1s is not more than 0"},
		{"guild size=5", "want capacity=N, idle=DURATION, history=N or keep=DURATION"},
		{"guild keep=", `rule "keep="`},
		{"guild keep=-1s", "-1s is less than 0"},
		{"guild keep=30", "missing unit"},
		{"guild keep=1h keep=2h", `rule "keep" stands twice`},
		{"guild Capacity=5", "want capacity=N"},
		{"guild capacity=1 capacity=2", `rule "capacity" stands twice`},
	} {
		kinds := Kinds{"before": {}}
		checkRefusal(t, "Decode("+test.text+")", kinds.Decode(test.text), test.says)
		if !maps.Equal(kinds, Kinds{"before": {}}) {
			t.Errorf("Decode(%q) failed and left %+v", test.text, kinds)
		}
	}
}

func TestKindsCheck(t *testing.T) {
	t.Parallel()
	var kinds Kinds
	if err := kinds.Decode(DefaultKinds); err != nil {
		t.Fatal(err)
	}
	if err := kinds.Check(Group{Kind: "party", ID: "42"}); err != nil {
		t.Error(err)
	}
	for _, group := range []Group{{}, {Kind: "clan", ID: "x"}, {Kind: "Guild", ID: "x"}} {
		checkRefusal(t, "Check("+group.String()+")", kinds.Check(group), "known are guild, party")
	}
}

func FuzzKinds(f *testing.F) {
	for _, text := range []string{DefaultKinds, "guild", "a capacity=1;b idle=1h", "guild idle=-1s", ";", "a a=b=c", "guild keep=1h", "guild keep=0"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var kinds, again Kinds
		if kinds.Decode(text) != nil {
			return
		}
		for kind, rules := range kinds {
			if rules.Capacity < 1 || rules.History < 1 || rules.IdleGrace <= 0 || rules.Keep < 0 {
				t.Errorf("Decode(%q) gave %s %+v", text, kind, rules)
			}
		}
		if err := again.Decode(kinds.String()); err != nil || !maps.Equal(kinds, again) {
			t.Errorf("%q becomes %q and then %+v, %v", text, kinds, again, err)
		}
	})
}
