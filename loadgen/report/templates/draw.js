for (const [id, chart] of Object.entries(JSON.parse(document.getElementById("charts").textContent)))
  Plotly.newPlot(id, chart.data, chart.layout, {
    responsive: true, displayModeBar: false,
  });
