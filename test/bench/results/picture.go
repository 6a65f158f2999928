// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Point of a line.
type Point struct{ X, Y float64 }

// Line of a chart, with a label at its end.
type Line struct {
	Label  string
	Color  string
	Dashed bool
	Points []Point
}

// Chart has both axes from 0.
type Chart struct {
	Title, X, Y string
	Lines       []Line
	// Limit is a line that must not be crossed, with its label; none if it is 0.
	Limit      float64
	LimitLabel string
}

// Size of a chart and the room around it, in pixels.
const (
	chartWidth, chartHeight = 640.0, 340.0
	left, right             = 64.0, 190.0
	top, bottom             = 48.0, 52.0
	lineGap                 = 15.0 // Between labels.
)

// Colors that can be distinguished on white and on black, including by the color-blind, and the gray of text.
const (
	Blue   = "#3a86d8"
	Orange = "#d9822b"
	Green  = "#2f9e76"
	gray   = "#768390"
)

// Picture draws the charts below one another as SVG, with a transparent background.
func Picture(charts ...Chart) []byte {
	var b strings.Builder
	height := chartHeight * float64(len(charts))
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" font-family="system-ui, sans-serif" font-size="12" fill="%s">`+"\n",
		chartWidth, height, chartWidth, height, gray)
	for i, chart := range charts {
		fmt.Fprintf(&b, `<g transform="translate(0 %.0f)">`+"\n", chartHeight*float64(i))
		chart.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// frame converts values to pixels.
type frame struct{ maxX, maxY float64 }

func (f frame) x(value float64) float64 { return left + value/f.maxX*(chartWidth-left-right) }

func (f frame) y(value float64) float64 {
	return chartHeight - bottom - value/f.maxY*(chartHeight-top-bottom)
}

func (c Chart) frame() (f frame, stepX, stepY float64) {
	for _, line := range c.Lines {
		for _, point := range line.Points {
			f.maxX, f.maxY = max(f.maxX, point.X), max(f.maxY, point.Y)
		}
	}
	f.maxY = max(f.maxY, c.Limit)
	stepX, stepY = step(f.maxX), step(f.maxY)
	f.maxX, f.maxY = stepX*math.Ceil(f.maxX/stepX), stepY*math.Ceil(f.maxY/stepY)
	return f, stepX, stepY
}

// step is a round distance between the ticks of an axis: four to ten of them.
func step(most float64) float64 {
	if most <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{0.1, 0.2, 0.25, 0.5, 1} {
		if most/(power*part) <= 6 {
			return power * part
		}
	}
	return power * 2
}

func (c Chart) draw(b *strings.Builder) {
	f, stepX, stepY := c.frame()
	text(b, left, top-24, "start", "bold", "", c.Title)
	text(b, left, top-8, "start", "normal", "", c.Y)
	text(b, f.x(f.maxX), chartHeight-bottom+38, "end", "normal", "", c.X)
	for i := 0; float64(i)*stepY <= f.maxY*1.0001; i++ {
		value := float64(i) * stepY
		stroke(b, left, f.y(value), f.x(f.maxX), f.y(value), gray, 0.35, "")
		text(b, left-8, f.y(value)+4, "end", "normal", "", number(value))
	}
	for i := 0; float64(i)*stepX <= f.maxX*1.0001; i++ {
		value := float64(i) * stepX
		stroke(b, f.x(value), f.y(0), f.x(value), f.y(0)+5, gray, 1, "")
		text(b, f.x(value), f.y(0)+20, "middle", "normal", "", number(value))
	}
	if c.Limit > 0 {
		stroke(b, left, f.y(c.Limit), f.x(f.maxX), f.y(c.Limit), gray, 1.5, "2 4")
		text(b, left+6, f.y(c.Limit)-6, "start", "normal", "", c.LimitLabel)
	}
	for _, line := range c.Lines {
		line.draw(b, f)
	}
	for i, y := range c.labels(f) {
		line := c.Lines[i]
		text(b, f.x(f.maxX)+10, y+4, "start", "bold", line.Color, line.Label)
	}
}

func (l Line) draw(b *strings.Builder, f frame) {
	var path strings.Builder
	for i, point := range l.Points {
		fmt.Fprintf(&path, "%c%.1f %.1f ", "LM"[btoi(i == 0)], f.x(point.X), f.y(point.Y))
	}
	dash := ""
	if l.Dashed {
		dash = ` stroke-dasharray="6 4"`
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2.5"%s/>`+"\n", strings.TrimSpace(path.String()), l.Color, dash)
	for _, point := range l.Points {
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/>`+"\n", f.x(point.X), f.y(point.Y), l.Color)
	}
}

// labels returns the height of each line's label: near its end, without overlap.
func (c Chart) labels(f frame) []float64 {
	out := make([]float64, len(c.Lines))
	for i, line := range c.Lines {
		if len(line.Points) > 0 {
			out[i] = f.y(line.Points[len(line.Points)-1].Y)
		}
	}
	for range len(out) * len(out) {
		for i := range out {
			for j := range out {
				// The lower one moves.
				if i != j && math.Abs(out[i]-out[j]) < lineGap && (out[i] > out[j] || out[i] == out[j] && i > j) {
					out[i] = out[j] + lineGap
				}
			}
		}
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func number(value float64) string {
	whole := fmt.Sprintf("%.0f", value)
	if value < 10 && value != math.Trunc(value) {
		return fmt.Sprintf("%.1f", value)
	}
	if len(whole) > 3 {
		return whole[:len(whole)-3] + "," + whole[len(whole)-3:]
	}
	return whole
}

func stroke(b *strings.Builder, x1, y1, x2, y2 float64, color string, width float64, dash string) {
	if dash != "" {
		dash = ` stroke-dasharray="` + dash + `"`
	}
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="%.2f"%s/>`+"\n", x1, y1, x2, y2, color, width, dash)
}

func text(b *strings.Builder, x, y float64, anchor, weight, color, words string) {
	fill := ""
	if color != "" {
		fill = ` fill="` + color + `"`
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-weight="%s"%s>`, x, y, anchor, weight, fill)
	_ = xml.EscapeText(b, []byte(words)) // A strings.Builder never fails.
	b.WriteString("</text>\n")
}
